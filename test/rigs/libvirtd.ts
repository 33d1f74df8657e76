import { join } from 'node:path';
import { ownLibvirtd } from '../../scripts/own_libvirtd.ts';
import { execute, type ExecuteOptions } from '../../src/common/execute.ts';
import { startHost, type Host } from './netns.ts';
import { Program } from './program.ts';
import { atEnd, type Scope } from './tmp.ts';

export interface Libvirtd {
  /** `qemu+unix:///system?socket=...`, for who is outside the host; inside, `qemu:///system` is this one too. */
  uri: string;
  host: Host;
  /** @returns standard output. @throws ProcessExecutionError */
  virsh(args: readonly string[], options?: ExecuteOptions): Promise<string>;
  /** Guests run on, as they do when libvirtd is restarted on a real host. */
  stop(): Promise<void>;
  start(): Promise<void>;
  restart(): Promise<void>;
  kill(): Promise<void>;
}

/**
 * A libvirtd of a test host's own (a new one without a network unless given); the machine's is not touched. The host
 * ends its guests with it, whatever ends the test.
 */
export async function startLibvirtd(scope: Scope, given: { host?: Host } = {}): Promise<Libvirtd> {
  const host = given.host ?? (await startHost(scope, 'libvirt'));
  const { mounts, argv, uri } = ownLibvirtd(host.dir);
  for (const mount of mounts) await host.exec(mount);
  const server = new Program({ name: 'libvirtd', argv, enter: host.enter, log: join(host.dir, 'libvirtd.log') });
  const virsh = async (args: readonly string[], options: ExecuteOptions = {}) =>
    (await execute(['virsh', '-q', '-c', uri, ...args], options)).stdout;
  const libvirtd: Libvirtd = {
    uri,
    host,
    virsh,
    start: () => server.start(async () => (await virsh(['version'])) !== ''),
    stop: () => server.stop(),
    kill: () => server.kill(),
    async restart() {
      await libvirtd.stop();
      await libvirtd.start();
    },
  };
  atEnd(scope, () => server.kill());
  await libvirtd.start();
  return libvirtd;
}
