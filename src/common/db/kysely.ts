import { createRequire } from 'node:module';
import type * as Package from 'kysely';

/**
 * What of Kysely exists at run time; its types come from the package itself. These are its CommonJS files: the 279 ES
 * modules of the same content cost every daemon 40 ms at its start and 7 MB for as long as it runs.
 */
const kysely = createRequire(import.meta.url)('kysely') as typeof Package;

export const {
  Kysely,
  PostgresDialect,
  RawNode,
  SelectQueryNode,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  sql,
} = kysely;
