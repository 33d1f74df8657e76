import { join } from 'node:path';
import { execute } from '../../src/common/execute.ts';
import type { Host } from './netns.ts';
import { Program } from './program.ts';
import { atEnd, type Scope } from './tmp.ts';

export const OPENVSWITCH = ['ovsdb-server', 'ovs-vswitchd', 'ovsdb-tool', 'ovs-vsctl'];
const RUN = '/run/openvswitch';

/**
 * Open vSwitch in a test host, as its operator installs it: the host's own ovsdb-server and ovs-vswitchd, which switches in
 * user space since namespaces share the machine's kernel, and a bridge with the interface to the other hosts in it.
 */
export async function startOpenVswitch(
  scope: Scope,
  { host, bridge = 'br-int', trunk = 'eth1' }: { host: Host; bridge?: string; trunk?: string },
): Promise<void> {
  const file = join(host.dir, 'conf.db');
  await execute(['ovsdb-tool', 'create', file, '/usr/share/openvswitch/vswitch.ovsschema']);
  await host.exec(['mkdir', '-p', RUN]);
  const start = async (name: string, args: readonly string[], ready: () => Promise<boolean>) => {
    const program = new Program({
      name: `${name} of ${host.name}`,
      argv: [name, ...args],
      log: join(host.dir, `${name}.log`),
      enter: host.enter,
    });
    atEnd(scope, () => program.kill());
    await program.start(ready);
  };
  const vsctl = async (...words: string[]) =>
    (await host.exec(['ovs-vsctl', '--timeout=10', ...words], { ok: [0, 1, 2, 142] })).exit_code === 0;
  await start('ovsdb-server', [file, `--remote=punix:${RUN}/db.sock`], () => vsctl('--no-wait', 'init'));
  // Not the machine's own kernel datapath, which another test host may use.
  await start('ovs-vswitchd', [`unix:${RUN}/db.sock`, '--disable-system'], () => vsctl('show'));
  const made = [
    'add-br',
    bridge,
    '--',
    'set',
    'bridge',
    bridge,
    'datapath_type=netdev',
    '--',
    'add-port',
    bridge,
    trunk,
  ];
  await host.exec(['ovs-vsctl', '--timeout=120', ...made], { timeout_ms: 120_000 });
}
