import type { Selectable } from 'kysely';
import { nowText } from '../clock.ts';
import type { RequestContext } from '../context.ts';
import type { Db } from './connect.ts';
import type { EventsTable } from './schema.ts';

export type Event = Selectable<EventsTable>;

/** Adds a line to the story of a resource, best in the transaction that makes it true. */
export async function recordEvent(
  db: Db,
  ctx: Pick<RequestContext, 'request_id' | 'project_id' | 'user_id'>,
  resource: string,
  event: string,
  host: string | null,
  details: Record<string, unknown> = {},
): Promise<void> {
  await db
    .insertInto('events')
    .values({
      request_id: ctx.request_id,
      project_id: ctx.project_id,
      user_id: ctx.user_id,
      resource,
      event,
      host,
      at: nowText(),
      details: JSON.stringify(details),
    })
    .execute();
}

export const eventsOf = (db: Db, resource: string): Promise<Event[]> =>
  db.selectFrom('events').selectAll().where('resource', '=', resource).orderBy('id').execute();

export const eventsOfRequest = (db: Db, request_id: string): Promise<Event[]> =>
  db.selectFrom('events').selectAll().where('request_id', '=', request_id).orderBy('id').execute();
