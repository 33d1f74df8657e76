import { setImmediate as turn } from 'node:timers/promises';
import SqliteDatabase from 'better-sqlite3';
import pg from 'pg';
import { nowText, sleep } from '../../src/common/clock.ts';
import { connectDb, type NovaDb } from '../../src/common/db/connect.ts';
import { releaseFixedIps } from '../../src/common/db/fixed_ips.ts';
import { formatIpv4, generateMac, ipv4Number, parseCidr } from '../../src/network/logic/addresses.ts';
import { timeOf } from '../load.ts';
import { answerParent } from './worker.ts';
import { claimFixedIp } from '../../test/claim_fixed_ip.ts';

export interface Open {
  url: string;
  network: { id: number; cidr: string };
  /** One a writer: their number is the number of writers. */
  instance_ids: number[];
}
/** [address, from, to]: from after it was given until before it was given back, on the clock that all processes share. */
export type Held = [number: number, from_us: number, to_us: number];

const LONGEST_HOLD_MS = 4;

let db: NovaDb;
let opened: Open;
let bare: (n: number) => Promise<void>;

async function open(to: Open): Promise<void> {
  opened = to;
  db = await connectDb(to.url);
  bare = to.url.startsWith('sqlite') ? bareSqlite(to) : barePostgres(to);
}

/** Takes and gives back `count` addresses, each writer one after the other. @returns every time an address was held */
async function takeAndGive({ count }: { count: number }): Promise<Held[]> {
  const { id, cidr } = opened.network;
  const { base, size } = parseCidr(cidr);
  const range = {
    network_id: id,
    cidr,
    first: base + 2,
    last: base + size - 2,
    except: null,
    format: formatIpv4,
    makeMac: () => generateMac(Math.random),
  };
  const now_us = () => Number(process.hrtime.bigint() / 1000n);
  const held: Held[] = [];
  const free = [...opened.instance_ids];
  await timeOf(count, free.length, async () => {
    const instance_id = free.pop() as number;
    const { address } = await claimFixedIp(db, range, instance_id, null);
    const from = now_us();
    await sleep(Math.random() * LONGEST_HOLD_MS);
    held.push([ipv4Number(address) ?? 0, from, now_us()]);
    await releaseFixedIps(db, instance_id, false);
    free.push(instance_id);
  });
  return held;
}

/** The same number of INSERT and DELETE by the driver alone, each a transaction. */
async function insertAndDelete({ count }: { count: number }): Promise<void> {
  await timeOf(count, opened.instance_ids.length, (n) => bare(n));
}

const INSERT = `insert into fixed_ips (address, address_number, network_id, instance_id, allocated, created_at)
  values ($1, $2, $3, $4, 1, $5)`;
const DELETE = 'delete from fixed_ips where network_id = $1 and address_number = $2';
/** Of no network there is, and each process numbers from a place of its own: nobody waits for anybody's row. */
const BARE_NETWORK = 0;
const bareNumber = (n: number): number => process.pid * 1_000_000 + n;

function bareSqlite({ url, instance_ids }: Open): (n: number) => Promise<void> {
  const file = new SqliteDatabase(url.slice('sqlite:///'.length), { timeout: 30_000 });
  file.pragma('journal_mode = WAL');
  file.pragma('synchronous = NORMAL');
  const insert = file.prepare(INSERT.replaceAll(/\$\d/g, '?'));
  const remove = file.prepare(DELETE.replaceAll(/\$\d/g, '?'));
  return async (n) => {
    insert.run('10.0.0.1', bareNumber(n), BARE_NETWORK, instance_ids[0], nowText());
    await turn();
    remove.run(BARE_NETWORK, bareNumber(n));
    await turn();
  };
}

function barePostgres({ url, instance_ids }: Open): (n: number) => Promise<void> {
  const pool = new pg.Pool({ connectionString: url, max: 10 });
  return async (n) => {
    await pool.query({
      name: 'insert',
      text: INSERT,
      values: ['10.0.0.1', bareNumber(n), BARE_NETWORK, instance_ids[0], nowText()],
    });
    await pool.query({ name: 'delete', text: DELETE, values: [BARE_NETWORK, bareNumber(n)] });
  };
}

answerParent({ open, takeAndGive, insertAndDelete });
