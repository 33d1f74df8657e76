import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execute } from '../../src/common/execute.ts';
import type { GuestVolume } from '../../src/common/volume_connection.ts';
import { freePort } from './free_port.ts';
import { Program } from './program.ts';
import { atEnd, tempDir, type Scope } from './tmp.ts';

export interface Tgt {
  /** A volume of `size_mb` in a sparse file, open to one user. */
  volume(id: number, size_mb: number, over?: Partial<GuestVolume>): Promise<GuestVolume & { file: string }>;
  /** Nobody may reach it any more, and who does is thrown out; the file stays. */
  close(volume: GuestVolume): Promise<void>;
  /** Open again, for its next attachment. */
  reopen(volume: GuestVolume): Promise<GuestVolume>;
  /** Initiators that are logged in. */
  sessions(volume: GuestVolume): Promise<number>;
  kill(): Promise<void>;
}

/** A tgtd of the test's own that listens on `address`, as nova-volume has one, driven by hand. */
export async function startTgt(scope: Scope, address = '127.0.0.1'): Promise<Tgt> {
  const dir = tempDir(scope, 'tgt');
  const port = await freePort();
  const env = { TGT_IPC_SOCKET: join(dir, 'socket') }; // so that it meets no other
  const server = new Program({
    name: 'tgtd',
    argv: ['tgtd', '-f', '--iscsi', `portal=${address}:${port}`],
    log: join(dir, 'tgtd.log'),
    env,
  });
  const tgtadm = async (mode: string, op: string, ...words: string[]): Promise<string> =>
    (await execute(['tgtadm', '--lld', 'iscsi', '--mode', mode, '--op', op, ...words], { env })).stdout;
  atEnd(scope, () => server.kill());
  await server.start(async () => (await tgtadm('system', 'show')).includes('State: ready'));
  return {
    async volume(id, size_mb, over = {}) {
      const name = `volume-${id.toString(16).padStart(8, '0')}`;
      const file = join(dir, name);
      writeFileSync(file, '');
      truncateSync(file, size_mb * 1024 ** 2);
      const tid = String(id);
      const target_iqn = `iqn.2010-10.org.openstack:${name}`;
      const [auth_username, auth_password] = [`vol-${id}-e1`, `secret-of-vol-${id}`];
      await tgtadm('target', 'new', '--tid', tid, '-T', target_iqn);
      await tgtadm('logicalunit', 'new', '--tid', tid, '--lun', '1', '-b', file);
      await tgtadm('account', 'new', '--user', auth_username, '--password', auth_password);
      await tgtadm('account', 'bind', '--tid', tid, '--user', auth_username);
      await tgtadm('target', 'bind', '--tid', tid, '-I', 'ALL');
      return {
        volume_id: id,
        serial: `vol-${id.toString(16).padStart(8, '0')}`,
        device: 'vdb',
        size_gb: 1,
        boot: false,
        connection: {
          driver_volume_type: 'iscsi',
          target_portal: `${address}:${port}`,
          target_iqn,
          target_lun: 1,
          auth_username,
          auth_password,
        },
        file,
        ...over,
      };
    },
    async close({ volume_id, connection }) {
      const tid = String(volume_id);
      await tgtadm('target', 'unbind', '--tid', tid, '-I', 'ALL'); // without an account alone it would be open to all
      if (connection.driver_volume_type === 'iscsi')
        await tgtadm('account', 'unbind', '--tid', tid, '--user', connection.auth_username);
      for (const { sid, cid } of await sessionsOf(tgtadm, tid))
        await tgtadm('conn', 'delete', '--tid', tid, '--sid', sid, '--cid', cid);
    },
    async reopen(volume) {
      const { connection } = volume;
      if (connection.driver_volume_type !== 'iscsi') throw new Error('not of a tgtd');
      const access = { auth_username: `${connection.auth_username}x`, auth_password: `${connection.auth_password}x` };
      await tgtadm('account', 'new', '--user', access.auth_username, '--password', access.auth_password);
      await tgtadm('account', 'bind', '--tid', String(volume.volume_id), '--user', access.auth_username);
      await tgtadm('target', 'bind', '--tid', String(volume.volume_id), '-I', 'ALL');
      return { ...volume, connection: { ...connection, ...access } };
    },
    sessions: async ({ volume_id }) => (await sessionsOf(tgtadm, String(volume_id))).length,
    kill: () => server.kill(),
  };
}

async function sessionsOf(tgtadm: (mode: string, op: string, ...words: string[]) => Promise<string>, tid: string) {
  const said = await tgtadm('conn', 'show', '--tid', tid);
  return [...said.matchAll(/Session: (\d+)\s+Connection: (\d+)/g)].map(([, sid = '', cid = '']) => ({ sid, cid }));
}
