import { aDatabase } from '../../../builders.ts';
import { credentialsContract } from '../../../credentials_contract.ts';
import { peopleContract } from '../../../people_contract.ts';

peopleContract('SQLite', aDatabase);
credentialsContract('SQLite', aDatabase);
