import { allContracts } from '../../../all_contracts.ts';
import { sqliteFile, sqliteInMemory } from '../../../databases.ts';

for (const database of [sqliteInMemory, sqliteFile]) allContracts(database);
