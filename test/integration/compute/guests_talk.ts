import { join } from 'node:path';
import type { Host } from '../../rigs/netns.ts';
import { Program } from '../../rigs/program.ts';
import { atEnd, type Scope } from '../../rigs/tmp.ts';
import { until } from '../../until.ts';

type AnyHost = Pick<Host, 'exec' | 'enter' | 'dir' | 'pid'>;

/** A TCP server in a guest that echoes. */
export async function serve(scope: Scope, guest: AnyHost, port: number): Promise<void> {
  const server = new Program({
    name: 'socat',
    argv: ['socat', `TCP-LISTEN:${port},fork,reuseaddr`, 'PIPE'],
    log: join(guest.dir, `serve-${port}.log`),
    enter: guest.enter,
  });
  atEnd(scope, () => server.kill());
  await server.start(async () => (await guest.exec(['ss', '-ltn'])).stdout.includes(`:${port} `));
}

export async function answers(from: AnyHost, ip: string, port: number, wait_s = 5): Promise<boolean> {
  const argv = ['socat', '-t', String(wait_s), '-', `TCP:${ip}:${port},connect-timeout=${wait_s}`];
  const { stdout } = await from.exec(argv, { input: 'hello\n', ok: [0, 1] });
  return stdout.includes('hello');
}

/** One TCP connection that stays open: what is written into the one file comes back in the other. */
export async function aConversation(scope: Scope, from: AnyHost, ip: string, port: number) {
  const [say, heard] = [join(from.dir, 'say'), join(from.dir, 'heard')];
  await from.exec(['mkfifo', say]);
  const client = new Program({
    name: 'conversation',
    argv: ['sh', '-c', `exec socat - TCP:${ip}:${port} <> "$0" > "$1"`, say, heard],
    log: join(from.dir, 'conversation.log'),
    enter: from.enter,
  });
  atEnd(scope, () => client.kill());
  await client.start(async () =>
    (await from.exec(['ss', '-tn', 'state', 'established'])).stdout.includes(`${ip}:${port}`),
  );
  return {
    async echoes(word: string): Promise<void> {
      await from.exec(['sh', '-c', 'echo "$0" > "$1"', word, say]);
      await until(`'${word}' comes back`, async () => (await from.exec(['cat', heard])).stdout.includes(word));
    },
  };
}

export async function serveDhcp(scope: Scope, guest: AnyHost, server: string, offer: string): Promise<void> {
  const argv = [
    'dnsmasq',
    '-k',
    '--conf-file=',
    '--port=0',
    '--user=root',
    '--bind-interfaces',
    `--listen-address=${server}`,
  ];
  const dhcp = new Program({
    name: 'dnsmasq',
    argv: [
      ...argv,
      `--dhcp-range=${offer},${offer},255.255.255.0`,
      '--leasefile-ro',
      '--no-ping',
      `--pid-file=${join(guest.dir, 'pid')}`,
    ],
    log: join(guest.dir, 'dnsmasq.log'),
    enter: guest.enter,
  });
  atEnd(scope, () => dhcp.kill());
  await dhcp.start(async () => (await guest.exec(['ss', '-lun'])).stdout.includes(':67 '));
}

/** What a DHCP server offers a guest; '' when none is heard in 10 s. */
export async function asksDhcp(guest: AnyHost): Promise<string> {
  const argv = ['busybox', 'udhcpc', '-f', '-n', '-q', '-i', 'eth0', '-t', '10', '-T', '1', '-s', '/bin/true'];
  const { stdout, stderr } = await guest.exec(argv, { ok: [0, 1] });
  return /lease of (\S+) obtained/.exec(stdout + stderr)?.[1] ?? '';
}
