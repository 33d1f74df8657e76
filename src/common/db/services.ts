import type { Selectable } from 'kysely';
import { nowText, textIn } from '../clock.ts';
import { Conflict, InvalidInput, ServiceNotFound } from '../errors.ts';
import { changed, isUniqueViolation, type Db } from './connect.ts';
import { sql } from './kysely.ts';
import type { ServicesTable } from './schema.ts';

export type ServiceRow = Selectable<ServicesTable>;

/** Flags that must be the same on all hosts; a service names those it depends on. */
export interface AgreedFlags {
  network_manager?: string;
  instance_name_template?: string;
  volume_name_template?: string;
  snapshot_name_template?: string;
}
export interface ServiceRegistration {
  host: string;
  binary: string;
  topic: string;
  availability_zone: string;
  incarnation: string;
  agreed_flags: AgreedFlags;
  enabled: boolean;
}

/** The row of (host, binary): taken over by this incarnation, or made. `disabled` survives restarts. */
export async function registerService(db: Db, service: ServiceRegistration): Promise<void> {
  const agreed_flags = JSON.stringify(service.agreed_flags);
  const { incarnation, topic, availability_zone } = service;
  for (;;) {
    const taken = await db
      .updateTable('services')
      .set({ incarnation, agreed_flags, topic, availability_zone, reporting_since: nowText(), updated_at: nowText() })
      .where('host', '=', service.host)
      .where('binary', '=', service.binary)
      .where('deleted', '=', 0)
      .executeTakeFirst();
    if (changed(taken) > 0) return;
    const { enabled, ...columns } = service;
    try {
      await db
        .insertInto('services')
        .values({
          ...columns,
          agreed_flags,
          disabled: enabled ? 0 : 1,
          reporting_since: nowText(),
          created_at: nowText(),
          updated_at: nowText(),
        })
        .execute();
      return;
    } catch (err) {
      if (!isUniqueViolation(err)) throw err; // another process of this host made it just now: take it over
    }
  }
}

export interface Liveness {
  /** Seconds without a heartbeat after which a service counts as down. */
  service_down_time: number;
  /** Seconds between heartbeats. */
  report_interval: number;
}

/**
 * One more report; a row that somebody deleted is made again. More than half of `service_down_time` since the last is a
 * break, but never less than two `report_interval`: reports come somewhat later than that interval.
 */
export async function heartbeat(
  db: Db,
  service: ServiceRegistration,
  { service_down_time, report_interval }: Liveness,
): Promise<void> {
  const now = nowText();
  const no_break = textIn(-Math.max(service_down_time / 2, 2 * report_interval));
  const result = await db
    .updateTable('services')
    .set({
      // First: MySQL would see the new updated_at.
      reporting_since: sql<string>`case when updated_at >= ${no_break} then coalesce(reporting_since, ${now}) else ${now} end`,
      report_count: sql<number>`report_count + 1`,
      updated_at: now,
    })
    .where('host', '=', service.host)
    .where('binary', '=', service.binary)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  if (changed(result) === 0) await registerService(db, service);
}

/**
 * Hosts whose service of the topic is not dead: it reported within --service_down_time, also if it was stopped in order just
 * now. After an outage of the database everybody was silent, and none is dead yet: not before some service reported without a
 * break for two --report_interval, in which all that live did.
 */
export async function hostsUp(db: Db, topic: string, liveness: Liveness): Promise<ReadonlySet<string>> {
  const since = textIn(-liveness.service_down_time);
  const heard_since = textIn(-2 * liveness.report_interval);
  const services = await allServices(db);
  const heard = services.filter((one) => (one.updated_at ?? '') >= since);
  const may_judge = heard.some((one) => one.reporting_since !== null && one.reporting_since <= heard_since);
  return new Set((may_judge ? heard : services).flatMap((one) => (one.topic === topic ? one.host : [])));
}

/** A stopped service is down at once, not only after --service_down_time. */
export async function signOff(db: Db, host: string, binary: string, incarnation: string): Promise<void> {
  await db
    .updateTable('services')
    .set({ incarnation: '' })
    .where('host', '=', host)
    .where('binary', '=', binary)
    .where('incarnation', '=', incarnation)
    .where('deleted', '=', 0)
    .execute();
}

/** Services that reported after `since` and did not sign off, disabled ones included. */
export async function liveServices(db: Db, since: string, topic?: string): Promise<ServiceRow[]> {
  let query = db.selectFrom('services').selectAll().where('deleted', '=', 0);
  query = query.where('incarnation', '!=', '').where('updated_at', '>=', since);
  if (topic !== undefined) query = query.where('topic', '=', topic);
  return query.orderBy('host').execute();
}

export const allServices = (db: Db): Promise<ServiceRow[]> =>
  db.selectFrom('services').selectAll().where('deleted', '=', 0).orderBy('host').orderBy('binary').execute();

export interface Zone {
  zone_name: string;
  /** A service in it takes work. */
  available: boolean;
}

/** Zones of these services, by name. */
export const zonesOf = (services: readonly ServiceRow[]): Zone[] =>
  [...new Set(services.map(({ availability_zone }) => availability_zone))].sort().map((zone_name) => ({
    zone_name,
    available: services.some((service) => service.availability_zone === zone_name && service.disabled === 0),
  }));

/**
 * A zone that a request names is one in which such a service is, up or not.
 * @param why where the name is from, when the request does not have it
 * @throws InvalidInput naming the zones that there are
 */
export async function checkZone(db: Db, topic: 'compute' | 'volume', zone: string, why = ''): Promise<void> {
  const rows = await db
    .selectFrom('services')
    .select('availability_zone')
    .distinct()
    .where('topic', '=', topic)
    .where('deleted', '=', 0)
    .orderBy('availability_zone')
    .execute();
  const zones = rows.map((row) => row.availability_zone);
  if (zones.includes(zone)) return;
  throw new InvalidInput(
    `there is no availability zone ${zone} for ${topic === 'compute' ? 'instances' : 'volumes'}${why}; ` +
      (zones.length === 0 ? `no nova-${topic} ever ran in this cloud` : `there is ${zones.join(', ')}`),
  );
}

/**
 * Out of every list and choice; it comes back when it reports again. One that reported after `since` stays.
 * @throws ServiceNotFound, Conflict
 */
export async function deleteService(db: Db, host: string, binary: string, since: string): Promise<void> {
  const now = nowText();
  const result = await db
    .updateTable('services')
    .set({ deleted: 1, deleted_at: now })
    .where('host', '=', host)
    .where('binary', '=', binary)
    .where('deleted', '=', 0)
    .where((e) => e.or([e('incarnation', '=', ''), e(e.fn.coalesce('updated_at', 'created_at'), '<', since)]))
    .executeTakeFirst();
  if (changed(result) > 0) return;
  const row = (await allServices(db)).find((one) => one.host === host && one.binary === binary);
  if (!row) throw new ServiceNotFound(`there is no ${binary} on a host ${host}`);
  throw new Conflict(`${binary} on ${host} reports, last at ${row.updated_at ?? row.created_at}: stop it there first`);
}

/** A disabled service gets no new work. @throws ServiceNotFound */
export async function setServiceDisabled(db: Db, host: string, binary: string, disabled: boolean): Promise<void> {
  const result = await db
    .updateTable('services')
    .set({ disabled: disabled ? 1 : 0 })
    .where('host', '=', host)
    .where('binary', '=', binary)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  if (changed(result) === 0) throw new ServiceNotFound(`there is no ${binary} on a host ${host}`);
}
