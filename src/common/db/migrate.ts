import { InvalidInput, NovaError } from '../errors.ts';
import { nowText } from '../clock.ts';
import { writing, type NovaDb, type Dialect, type Tx } from './connect.ts';
import { sql } from './kysely.ts';
import * as m0001 from './migrations/0001_initial.ts';
import * as m0002 from './migrations/0002_floating_ips.ts';
import * as m0003 from './migrations/0003_volumes.ts';
import * as m0004 from './migrations/0004_provider_fw_rules.ts';
import * as m0005 from './migrations/0005_project_networks.ts';
import * as m0006 from './migrations/0006_metadata_options.ts';
import * as m0007 from './migrations/0007_group_rule_protocols.ts';
import * as m0008 from './migrations/0008_away.ts';
import * as m0009 from './migrations/0009_volume_tokens.ts';
import * as m0010 from './migrations/0010_reporting_since.ts';
import * as m0011 from './migrations/0011_image_deadline.ts';
import * as m0012 from './migrations/0012_made_for_launch.ts';
import * as m0013 from './migrations/0013_job_lists.ts';
import * as m0014 from './migrations/0014_live_rows.ts';
import * as m0015 from './migrations/0015_failed_jobs.ts';

interface Migration {
  name: string;
  up: (tx: Tx, dialect: Dialect) => Promise<void>;
}
/** In order; the version is the place in this list. They only add: what is no longer used goes one release later. */
const MIGRATIONS: readonly Migration[] = [
  { name: '0001_initial', up: m0001.up },
  { name: '0002_floating_ips', up: m0002.up },
  { name: '0003_volumes', up: m0003.up },
  { name: '0004_provider_fw_rules', up: m0004.up },
  { name: '0005_project_networks', up: m0005.up },
  { name: '0006_metadata_options', up: m0006.up },
  { name: '0007_group_rule_protocols', up: m0007.up },
  { name: '0008_away', up: m0008.up },
  { name: '0009_volume_tokens', up: m0009.up },
  { name: '0010_reporting_since', up: m0010.up },
  { name: '0011_image_deadline', up: m0011.up },
  { name: '0012_made_for_launch', up: m0012.up },
  { name: '0013_job_lists', up: m0013.up },
  { name: '0014_live_rows', up: m0014.up },
  { name: '0015_failed_jobs', up: m0015.up },
];

export const LATEST = MIGRATIONS.length;
/** Any number: the same one in every process that migrates. */
const ADVISORY_LOCK = 2011;

/** @returns 0 for an empty database */
export async function dbVersion(db: NovaDb | Tx): Promise<number> {
  const tables = await db.introspection.getTables();
  if (!tables.some((table) => table.name === 'migrations_applied')) return 0;
  const row = await db
    .selectFrom('migrations_applied')
    .select((e) => e.fn.max('version').as('version'))
    .executeTakeFirst();
  return Number(row?.version ?? 0);
}

/** Brings the schema to `version` (default: the latest). Safe to run again and from several processes. @throws InvalidInput */
export async function syncDb(db: NovaDb, version = LATEST): Promise<number> {
  if (!Number.isInteger(version) || version < 1 || version > LATEST)
    throw new InvalidInput(`there is no schema version ${version}; the latest is ${LATEST}`);
  return writing(db, async (tx) => {
    if (db.dialect === 'postgresql') await sql`select pg_advisory_xact_lock(${ADVISORY_LOCK})`.execute(tx);
    await tx.schema
      .createTable('migrations_applied')
      .ifNotExists()
      .addColumn('version', 'integer', (c) => c.primaryKey())
      .addColumn('name', 'text', (c) => c.notNull())
      .addColumn('applied_at', 'text', (c) => c.notNull())
      .execute();
    const from = await dbVersion(tx);
    for (const [i, migration] of MIGRATIONS.slice(0, version).entries()) {
      if (i < from) continue;
      await migration.up(tx, db.dialect);
      await tx
        .insertInto('migrations_applied')
        .values({ version: i + 1, name: migration.name, applied_at: nowText() })
        .execute();
    }
    return Math.max(from, version);
  });
}

/** At a daemon's start: an empty SQLite file is made ready, anything else must be at this release's version. */
export async function ensureSchema(db: NovaDb): Promise<void> {
  const version = await dbVersion(db);
  if (version === LATEST) return;
  if (version === 0 && db.dialect === 'sqlite') {
    await syncDb(db);
    return;
  }
  throw new NovaError(
    version > LATEST
      ? `the database has schema version ${version}, newer than this release's ${LATEST}: upgrade this host`
      : `the database has schema version ${version}, this release needs ${LATEST}: run nova-manage db sync`,
  );
}
