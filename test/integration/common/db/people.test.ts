import { after, type TestContext } from 'node:test';
import { connectDb, type NovaDb } from '../../../../src/common/db/connect.ts';
import { syncDb } from '../../../../src/common/db/migrate.ts';
import { credentialsContract } from '../../../credentials_contract.ts';
import { peopleContract } from '../../../people_contract.ts';
import { needs } from '../../../rigs/needs.ts';
import { startPostgres } from '../../../rigs/postgres.ts';

const skip = needs('postgres', 'initdb');
const postgres = skip ? undefined : await startPostgres({ after }); // not inside a test, whose end would stop it

async function aPostgresDatabase(t: TestContext): Promise<NovaDb> {
  const db = await connectDb((await postgres?.createDatabase()) ?? '');
  t.after(() => db.destroy());
  await syncDb(db);
  return db;
}

peopleContract('PostgreSQL', aPostgresDatabase, skip);
credentialsContract('PostgreSQL', aPostgresDatabase, skip);
