import type { Generated } from 'kysely';

/** What every table with a history has. */
export interface Base {
  id: Generated<number>;
  created_at: string;
  /** Null until the first change. */
  updated_at: string | null;
  deleted_at: string | null;
  deleted: Generated<number>;
}
