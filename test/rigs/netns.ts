import { join } from 'node:path';
import { execute, type ExecuteOptions, type ExecuteResult } from '../../src/common/execute.ts';
import { readFile } from 'node:fs/promises';
import { Program } from './program.ts';
import { atEnd, tempDir, type Scope } from './tmp.ts';

/**
 * Test hosts: each has a network, processes, mounts, /run and a host name of its own, but the machine's files. None of
 * the namespaces has a name; they live as long as their first process does, and that one dies with the test, so nothing
 * is left behind even when the test is killed: everything that was started inside, daemons that fork themselves and
 * guests too, is killed by the kernel with it.
 *
 *     this process            the switch (a host itself)         h1              h2
 *     198.18.N.1 ------------ bridge eth0 ---------------------- eth0 .11 ------ eth0 .12     management and public
 *                             bridge eth1 ---------------------- eth1 ---------- eth1         bare, for guests' bridges
 */
export class Host {
  readonly name: string;
  /** Dotted IPv4 on eth0, which this process reaches; 127.0.0.1 when the host is on no switch. */
  address = '127.0.0.1';
  /** Folder for what the test keeps of this host, on the machine's own file system. */
  readonly dir: string;
  readonly #first: Program;

  constructor(name: string, dir: string, first: Program) {
    this.name = name;
    this.dir = dir;
    this.#first = first;
  }

  /** The host's first process, as this process sees it. */
  get pid(): number {
    return this.#first.pid;
  }

  /** Put before a command's argv, it runs the command in this host. */
  get enter(): readonly string[] {
    return ['nsenter', '-t', String(this.pid), '-m', '-u', '-i', '-n', '-p', '--'];
  }

  /** Runs a command in this host. @throws ProcessExecutionError */
  exec(argv: readonly string[], options: ExecuteOptions = {}): Promise<ExecuteResult> {
    return execute([...this.enter, ...argv], options);
  }

  /** Ends everything that runs in this host, and the host. */
  stop(): Promise<void> {
    return this.#first.kill();
  }
}

// The shell stays as the first process, since it reaps what is orphaned in its namespace, as an init does.
const FIRST_PROCESS = `set -e; hostname "$0"; mount -t sysfs sysfs /sys; mount -t tmpfs -o mode=755 run /run
  ip link set lo up; echo up; sleep infinity & while :; do wait; done`;

/** A host with nothing but its loopback. */
export async function startHost(scope: Scope, name: string): Promise<Host> {
  const dir = tempDir(scope, name);
  const log = join(dir, 'host.log');
  const first = new Program({
    name: `host ${name}`,
    argv: ['sh', '-c', FIRST_PROCESS, name],
    enter: [
      'unshare',
      '-m',
      '-u',
      '-i',
      '-n',
      '-p',
      '--fork',
      '--kill-child',
      '--mount-proc',
      '--propagation',
      'private',
    ],
    log,
  });
  const host = new Host(name, dir, first);
  atEnd(scope, () => host.stop());
  await first.start(async () => (await readFile(log, 'utf8')).includes('up\n'));
  return host;
}

export interface Lan {
  hosts: Host[];
  /** The host that holds the bridges `eth0` and `eth1`: take a port down there to part hosts (`h1-eth0`). */
  switch: Host;
  /** This process's own address. */
  address: string;
  /** Of eth0, e.g. `198.18.3.0/24`; hosts have .11 and up, .128 and up are the test's to use as floating ips. */
  cidr: string;
}

/** Hosts on one switch, in the order of their names. */
export async function startLan(scope: Scope, names: readonly string[]): Promise<Lan> {
  const hub = await startHost(scope, 'switch');
  await hub.exec(['ip', '-batch', '-'], {
    input: ['eth0', 'eth1'].map((lan) => `link add ${lan} type bridge\nlink set ${lan} up\n`).join(''),
  });
  const net = await joinSwitch(scope, hub);
  const hosts: Host[] = [];
  for (const name of names) {
    const host = await startHost(scope, name);
    host.address = `${net}.${11 + hosts.length}`;
    for (const nic of ['eth0', 'eth1']) {
      await plug(hub, `${name}-${nic}`, nic, ['name', nic, 'netns', String(host.pid)]);
      await host.exec(['ip', 'link', 'set', nic, 'up']);
    }
    await host.exec(['ip', 'addr', 'add', `${host.address}/24`, 'dev', 'eth0']);
    hosts.push(host);
  }
  return { hosts, switch: hub, address: `${net}.1`, cidr: `${net}.0/24` };
}

/** Adds a port to a bridge of the switch, its other end as `peer` says. */
async function plug(hub: Host, port: string, bridge: string, peer: readonly string[]): Promise<void> {
  await execute(['ip', 'link', 'add', port, 'netns', String(hub.pid), 'type', 'veth', 'peer', ...peer]);
  await hub.exec(['ip', 'link', 'set', port, 'master', bridge, 'up']);
}

/**
 * Gives this process's own network a leg on the switch, in the first /24 of 198.18.0.0/16 (kept for tests by RFC 2544)
 * that no other test has: the device's name is the lock. @returns the first three numbers
 */
async function joinSwitch(scope: Scope, hub: Host): Promise<string> {
  for (let n = 0; n < 256; n++) {
    const device = `nova-lan${n}`;
    const taken = await plug(hub, 'test', 'eth0', ['name', device]).then(
      () => false,
      (err: Error) => err.message.includes('File exists') || Promise.reject(err),
    );
    if (taken) continue;
    // The kernel takes it away with the switch, but some time after; 1: it did so already.
    atEnd(scope, async () => void (await execute(['ip', 'link', 'del', device], { ok: [0, 1] })));
    await execute(['ip', 'addr', 'add', `198.18.${n}.1/24`, 'dev', device]);
    const { NOVA_TEST_MARK: mark } = process.env;
    await execute([
      'ip',
      'link',
      'set',
      device,
      'up',
      ...(mark === undefined ? [] : ['alias', `NOVA_TEST_MARK=${mark}`]),
    ]);
    return `198.18.${n}`;
  }
  throw new Error('no free 198.18.N.0/24: 256 test switches are up, or their nova-lanN devices were left');
}
