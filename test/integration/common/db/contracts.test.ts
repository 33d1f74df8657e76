import { after } from 'node:test';
import { allContracts } from '../../../all_contracts.ts';
import { postgresql } from '../../../databases.ts';
import { needs } from '../../../rigs/needs.ts';
import { startPostgres } from '../../../rigs/postgres.ts';

const skip = needs('postgres', 'initdb');
const postgres = skip ? undefined : await startPostgres({ after }); // not inside a test, whose end would stop it
const database = postgresql(async () => (await postgres?.createDatabase()) ?? '', skip);

allContracts(database);
