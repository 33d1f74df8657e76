import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { makeContext } from '../../src/common/context.ts';
import { viewVolumes, type VolumeView } from '../../src/common/db/volume_views.ts';
import { Flags } from '../../src/common/flags.ts';
import { silentLog } from '../../src/common/log.ts';
import { LUN, Tgt, tgtFlags } from '../../src/volume/drivers/tgt/tgt.ts';
import {
  aRealCloud,
  ingress,
  tcp,
  type RealCloud,
  type RealCloudOptions,
  type RealGuest,
} from '../network/real_cloud.ts';
import type { Daemon } from '../rigs/daemon.ts';
import type { Scope } from '../rigs/tmp.ts';
import { until } from '../until.ts';
import type { Iscsi } from './a_store.ts';

/** A real cloud (see test/network/real_cloud.ts) with a nova-volume on node1: files, exported by a tgtd of its own. */
export interface RealStore extends RealCloud {
  volumed: Daemon;
  /** Waits until the volume (`vol-0000000a`) is that, or 'gone'. Fails at once when it is in error. */
  becomes(id: string, status: string): Promise<void>;
  attached(id: string): Promise<void>;
  /** As nova-api shows it to an administrator; undefined when it is gone. */
  volume(id: string): Promise<VolumeView | undefined>;
  /** Every volume, snapshot and export at the store. */
  left(): Promise<string[]>;
  /** Waits until the guest's console has this. @returns what the first group matched */
  consoleSays(guest: Pick<RealGuest, 'ec2_id'>, words: RegExp): Promise<string>;
  /** Has the guest run a script, its output on the console, and waits for this there. @returns what the first group matched */
  runs(guest: RealGuest, script: string, words: RegExp): Promise<string>;
}

export const storeFlags = { volume_driver: 'nova.volume.driver.FileISCSIDriver', volume_reserved_mb: 0 };

export async function aRealStore(t: Scope, options: Partial<RealCloudOptions> = {}): Promise<RealStore> {
  const cloud = await aRealCloud(t, {
    network_manager: 'nova.network.manager.FlatDHCPManager',
    ...options,
    flags: { ...storeFlags, ...options.flags },
  });
  const volumed = await cloud.start('nova-volume', cloud.node1);
  await ingress(cloud.ann, 'Authorize', tcp(2222, '0.0.0.0/0')); // the shell of the guests
  const ctx = makeContext({ is_admin: true });
  const volume = async (id: string) => (await viewVolumes(cloud.db, ctx, { ids: [numberOf(id)] }))[0];
  const waitFor = async (id: string, what: string, is: (now: VolumeView | undefined) => boolean) => {
    let now: VolumeView | undefined;
    await until(
      `${id} is ${what}`,
      async () => {
        now = await volume(id);
        if (what !== 'error') assert.ok(now?.status !== 'error', `${id} is in error: ${now?.fault}`);
        return is(now);
      },
      () => JSON.stringify(now),
    );
  };
  const consoleSays: RealStore['consoleSays'] = async (guest, words) => {
    let text = '';
    const look = async () => {
      text = (await cloud.console(cloud.ann, guest)).replaceAll('\r', '');
      const found = words.exec(text);
      return found !== null && (found[1] ?? '');
    };
    return until(`the console of ${guest.ec2_id} shows ${words.source}`, look, () => text.slice(-2000));
  };
  return {
    ...cloud,
    volumed,
    volume,
    becomes: (id, status) => waitFor(id, status, (now) => (now?.status ?? 'gone') === status),
    attached: (id) => waitFor(id, 'attached', (now) => now?.status === 'in-use' && now.attachment?.status === 'attached'), // prettier-ignore
    left: () => leftAt(cloud.node1),
    consoleSays,
    async runs(guest, script, words) {
      // Not over the connection, which does not wait as long as a guest on a busy machine may take.
      await guest.sh(`cat >/tmp/script <<'END'\n${script}\nEND\nsh /tmp/script </dev/null >/dev/console 2>&1 &`);
      return consoleSays(guest, words);
    },
  };
}

/** Files and exports, by their names. */
export async function leftAt({
  dir,
  address,
  port = 3260,
}: {
  dir: string;
  address: string;
  port?: number;
}): Promise<string[]> {
  const names = (folder: string) => (existsSync(folder) ? readdirSync(folder) : []);
  const volumes = join(dir, 'volumes');
  const files = [...names(volumes), ...names(join(volumes, 'snapshots'))].filter((name) =>
    /^(volume|snapshot)-/.test(name),
  );
  const exports = await new Tgt({
    flags: Flags.of({ state_path: dir, iscsi_ip_address: address, iscsi_port: port }),
    log: silentLog,
  }).iqns();
  return [...files, ...exports].toSorted();
}

/** At the store. */
export const nameOf = (id: string): string => `volume-${id.slice('vol-'.length)}`;

/** As nova-compute is told of it, with the secret of its live attachment. */
export async function connectionOf({ db, node1 }: Pick<RealStore, 'db' | 'node1'>, id: string): Promise<Iscsi> {
  const { auth_username, auth_password } = await db
    .selectFrom('volume_attachments')
    .select(['auth_username', 'auth_password'])
    .where('volume_id', '=', numberOf(id))
    .where('deleted', '=', 0)
    .executeTakeFirstOrThrow();
  const { iscsi_target_prefix, iscsi_port } = Flags.of({ my_ip: node1.address }).read(tgtFlags);
  return {
    driver_volume_type: 'iscsi',
    target_portal: `${node1.address}:${iscsi_port}`,
    target_iqn: `${iscsi_target_prefix}${nameOf(id)}`,
    target_lun: LUN,
    auth_username,
    auth_password,
  };
}

export const numberOf = (id: string): number => parseInt(id.replace(/^[a-z]+-/, ''), 16);

/** Shell: sets `disk` to the name that the guest gave to the disk with this serial, once it is there. */
export const FIND = (serial: string): string =>
  `for n in $(seq 900); do for d in /sys/block/vd*; do [ "$(cat $d/serial)" = ${serial} ] && disk=/dev/\${d##*/}; done; [ -n "$disk" ] && break; sleep 0.2; done`;
