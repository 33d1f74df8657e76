import { dbVersion, LATEST, syncDb } from '../common/db/migrate.ts';
import { integer, optional, verb, type Noun } from './noun.ts';

/** Source: Nova 2011.3 bin/nova-manage DbCommands. */
export const dbCommands: Noun = {
  name: 'db',
  summary: 'The schema of the database',
  verbs: {
    sync: verb({
      summary: 'Bring the schema to this release, or to a version before',
      details: 'A newer schema stays as it is. Safe to run again, and while daemons of this release run.',
      args: { version: optional(integer('Version to stop at', { min: 1 }), LATEST) },
      needs_schema: false,
      may_be_first: true,
      run: async (m, { version }) => {
        await syncDb(m.db, version);
      },
    }),
    version: verb({
      summary: "Print the schema's version",
      needs_schema: false,
      run: async (m) => m.out(String(await dbVersion(m.db))),
    }),
  },
};
