import assert from 'node:assert/strict';
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { guestImage } from '../../scripts/guest_image.ts';
import { execute, type ExecuteResult } from '../../src/common/execute.ts';
import { needs } from '../rigs/needs.ts';
import { startHost, type Host } from '../rigs/netns.ts';
import { Program } from '../rigs/program.ts';
import { atEnd, projectRoot, type Scope } from '../rigs/tmp.ts';

const START = [process.execPath, join(projectRoot(), 'dist', 'scripts', 'start.js')];
const BOOT_MS = 240_000;
/** Where a libvirtd, or a nova that forgot its state folder, would leave something. */
const ELSEWHERE = ['/var/lib/libvirt', '/var/log/libvirt', '/var/cache/libvirt', '/etc/libvirt', '/var/lib/nova'];

const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--'];

const unreadable = async (): Promise<string | false> =>
  execute([...NOBODY, 'test', '-r', START[1] ?? '']).then(
    () => false,
    () => `needs a project folder that user 65534 may read, which ${projectRoot()} is not`,
  );
const root_skip = needs('root', 'libvirtd', 'virsh', 'qemu-system-x86_64', 'dnsmasq', 'iptables', 'nsenter', 'unshare');
const nobody_skip = needs('root', 'qemu-system-x86_64', 'setpriv', 'nsenter', 'unshare') || (await unreadable());

/** A machine with nothing on it, and the folder that npm start keeps everything in. */
async function aMachine(scope: Scope): Promise<{ host: Host; state: string; env: Record<string, string> }> {
  await guestImage(console.log); // fetched here, since the test host has no way out
  const host = await startHost(scope, 'start');
  await host.exec(['sysctl', '-qw', 'net.ipv4.ip_forward=0']); // else as the machine outside has it
  const state = join(host.dir, 'state');
  mkdirSync(state);
  return { host, state, env: { NOVA_STATE_DIR: state } };
}

const check = (host: Host, env: Record<string, string>, as: readonly string[] = []): Promise<ExecuteResult> =>
  host.exec([...as, ...START, '--check'], { env, timeout_ms: BOOT_MS });

/** Of the network, rules, processes and kernel settings of a machine, what a bare one has not. */
async function traces(host: Host): Promise<string[]> {
  const said = async (...argv: string[]) => (await host.exec(argv)).stdout.trim().split('\n');
  const links = (await said('ip', '-br', 'link')).filter((line) => !line.startsWith('lo '));
  const addresses = (await said('ip', '-br', 'addr', 'show', 'lo')).filter((line) => line.includes('169.254.169.254'));
  const rules = (await said('iptables-save')).filter((line) => /^(-A|:nova|:LIBVIRT)/.test(line));
  const processes = (await said('ps', '-e', '-o', 'args=')).filter(
    (line) => !/^(sh -c set -e|sleep inf|ps -e)/.test(line),
  );
  const forwarding = (await said('sysctl', 'net.ipv4.ip_forward')).filter((line) => !line.endsWith('= 0'));
  const files = (await said('find', '/run', '-mindepth', '1', '!', '-type', 'd', '!', '-name', 'xtables.lock')).filter(
    Boolean,
  );
  return [...links, ...addresses, ...rules, ...processes, ...forwarding, ...files];
}

const elsewhere = (): string[] =>
  ELSEWHERE.filter((folder) => existsSync(folder)).flatMap((folder) =>
    (readdirSync(folder, { recursive: true }) as string[]).map((name) => join(folder, name)),
  );

test(
  'npm start -- --check ends with 0 when a real guest has answered, and twice leaves nothing',
  { skip: root_skip },
  async (t) => {
    const { host, state, env } = await aMachine(t);
    const before = elsewhere();

    for (const time of ['first', 'second']) {
      const { stdout } = await check(host, env);

      assert.match(stdout, /ok {2}machine .* libvirt, a libvirtd of our own/, time);
      assert.match(stdout, /ok {2}answering .* http:\/\/10\.11\.12\.\d+:80\/instance-id says i-0000000\d\n/, time);
      assert.deepEqual(await traces(host), [], time);
    }

    assert.deepEqual(elsewhere(), before);
    for (const secret of ['novarc', 'start.pem', 'nova.flags', 'nova.sqlite'])
      assert.equal(statSync(join(state, secret)).mode & 0o077, 0, secret);
  },
);

test(
  'what npm start prints works as it is; Ctrl-C ends all; what a killed start left is ended by the next',
  { skip: root_skip },
  async (t) => {
    const { host, env } = await aMachine(t);
    const { start, log } = aStart(t, host, env);

    const cloud = await start();
    const [source = '', ...commands] = section(log(), 'Three commands to try, in another shell');
    assert.equal(commands.length, 3);
    const ec2_id = /says (i-\w+)/.exec(log())?.[1] ?? '';
    for (const command of commands.filter((line) => !line.includes('# once there is:'))) {
      const { stdout } = await host.exec(['bash', '--norc', '-c', `${source}\n${command}`], { timeout_ms: 120_000 });
      assert.match(stdout, new RegExp(`${ec2_id}|"name":"first"`), command);
    }
    for (const command of section(log(), 'The guest').filter((line) => line.startsWith('curl'))) {
      assert.equal((await host.exec(['sh', '-c', command])).stdout.trim(), ec2_id);
    }

    cloud.signal('SIGINT');
    await cloud.ended;
    assert.match(log(), /Nothing is left but/);
    assert.deepEqual(await traces(host), []);

    const killed = await start();
    await killed.kill();
    assert.match((await host.exec(['ps', '-e'])).stdout, /qemu-system/);
    const { stdout } = await check(host, env);
    assert.match(
      stdout,
      /The start before did not end in order; ending what it left:\n.* libvirtd .*\n.* daemons .*\n.* terminating /,
    );
    assert.match(stdout, /ok {2}answering /);
    assert.deepEqual(await traces(host), []);
  },
);

test(
  'a user who is not root gets a real guest, of QEMU alone, at a port of 127.0.0.1',
  { skip: nobody_skip },
  async (t) => {
    const { host, state, env } = await aMachine(t);
    chmodSync(host.dir, 0o755);
    chownSync(state, 65534, 65534);

    const { stdout } = await check(host, { ...env, HOME: '/nonexistent' }, NOBODY);

    assert.match(stdout, /ok {2}machine .* QEMU of this user/);
    assert.match(stdout, /no libvirt: bridges and libvirtd need root\n/);
    assert.match(stdout, /ok {2}answering .* http:\/\/127\.0\.0\.1:\d+\/instance-id says i-00000001\n/);
    assert.deepEqual(await traces(host), []);
  },
);

/** `npm start` itself, without --check. @returns how to start it (until it waits for Ctrl-C), and what it has written */
function aStart(scope: Scope, host: Host, env: Record<string, string>) {
  const file = join(host.dir, 'start.log');
  const log = () => readFileSync(file, 'utf8');
  let times = 0;
  return {
    log,
    async start(): Promise<Program> {
      const program = new Program({ name: 'npm start', argv: START, enter: host.enter, log: file, env });
      atEnd(scope, () => program.kill());
      times++;
      await program.start(async () => log().split('Ctrl-C ends everything.').length > times, BOOT_MS);
      return program;
    },
  };
}

/** The lines under a title of what npm start prints. */
const section = (log: string, title: string): string[] =>
  (log.split(`\n${title}\n`).at(-1) ?? '')
    .split('\n\n')[0]
    ?.split('\n')
    .map((line) => line.trim()) ?? [];
