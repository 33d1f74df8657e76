import { aDatabase } from '../../../builders.ts';
import { peopleContract } from '../../../people_contract.ts';

peopleContract('SQLite', aDatabase);
