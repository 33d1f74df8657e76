import { nowText } from '../clock.ts';
import type { Tx } from './connect.ts';

export interface NewReservation {
  reservation_id: string;
  project_id: string;
  client_token: string | null;
  request_hash: string | null;
}

export async function insertReservation(tx: Tx, reservation: NewReservation): Promise<void> {
  await tx
    .insertInto('reservations')
    .values({ ...reservation, created_at: nowText() })
    .execute();
}

/** The launch that this token stood for before. */
export const reservationByToken = (tx: Tx, project_id: string, client_token: string) =>
  tx
    .selectFrom('reservations')
    .select(['reservation_id', 'request_hash'])
    .where('project_id', '=', project_id)
    .where('client_token', '=', client_token)
    .executeTakeFirst();
