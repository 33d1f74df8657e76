import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect, type ConfirmChannel } from 'amqplib';
import { execute } from '../../src/common/execute.ts';
import { findProgram } from './needs.ts';
import type { Host } from './netns.ts';
import { freePort } from './free_port.ts';
import { Program } from './program.ts';
import { atEnd, tempDir, type Scope } from './tmp.ts';

export interface Rabbitmq {
  /** `amqp://guest:guest@ADDRESS:PORT`, virtual host `/`. */
  url: string;
  /** What a flagfile needs: rabbit_host, rabbit_port. */
  flags: { rabbit_host: string; rabbit_port: number };
  /** The same for its port with TLS, and the certificate that answers there, which is its own CA. */
  tls: { flags: Rabbitmq['flags'] & { rabbit_use_ssl: true }; ca: string };
  /** Stopped in order; durable queues and their persistent messages stay for start(). */
  stop(): Promise<void>;
  start(): Promise<void>;
  restart(): Promise<void>;
  /** As if its machine lost power. */
  kill(): Promise<void>;
  /** Connections stay open and nobody answers. */
  pause(): void;
  resume(): void;
  /** The memory alarm: who publishes is blocked, until it is over. */
  alarm(on: boolean): Promise<void>;
  /** Empties a queue. @returns how many messages it had */
  purge(queue: string): Promise<number>;
  /** Does something with a channel of its own, e.g. `checkQueue`. */
  withChannel<T>(use: (channel: ConfirmChannel) => Promise<T>): Promise<T>;
}

/** RabbitMQ with nothing of the machine's own: node name, ports, epmd, cookie, folders. It takes about 4 s and 90 MB. */
export async function startRabbitmq(scope: Scope, { host }: { host?: Host } = {}): Promise<Rabbitmq> {
  const dir = tempDir(scope, 'rabbit');
  const address = host?.address ?? '127.0.0.1';
  const port = await freePort();
  const tls_port = await freePort();
  const env = rabbitEnv(dir, port, await freePort(), await freePort());
  const enter = host?.enter ?? [];
  const ca = await makeCertificate(dir, address);
  writeFileSync(join(dir, 'rabbitmq.conf'), rabbitConf(dir, address, port, tls_port));
  writeFileSync(join(dir, 'plugins'), '[].\n');

  const epmd = new Program({
    name: 'epmd',
    argv: ['epmd', '-address', '127.0.0.1'],
    env,
    enter,
    log: join(dir, 'epmd.log'),
  });
  const argv = [findProgram('rabbitmq-server') ?? 'rabbitmq-server'];
  const server = new Program({ name: 'rabbitmq', argv, env, enter, log: join(dir, 'rabbit.log') });
  const url = `amqp://guest:guest@${address}:${port}`;
  async function withChannel<T>(use: (channel: ConfirmChannel) => Promise<T>): Promise<T> {
    const connection = await connect(url, { timeout: 60_000 });
    connection.on('error', () => undefined); // what failed rejects its own promise too
    try {
      return await use(await connection.createConfirmChannel());
    } finally {
      await connection.close().catch(() => undefined); // the broker closed it first, as kill() makes it
    }
  }
  const rabbit: Rabbitmq = {
    url,
    flags: { rabbit_host: address, rabbit_port: port },
    tls: { flags: { rabbit_host: address, rabbit_port: tls_port, rabbit_use_ssl: true }, ca },
    withChannel,
    start: () => server.start(() => withChannel(async () => true)),
    stop: () => server.stop(),
    kill: () => server.kill(),
    pause: () => server.pause(),
    resume: () => server.resume(),
    async alarm(on) {
      const argv = [findProgram('rabbitmqctl') ?? 'rabbitmqctl', 'set_vm_memory_high_watermark', on ? '0' : '0.4'];
      await execute([...enter, ...argv], { env });
    },
    async restart() {
      await rabbit.stop();
      await rabbit.start();
    },
    purge: (queue) => withChannel(async (channel) => (await channel.purgeQueue(queue)).messageCount),
  };
  atEnd(scope, () => epmd.kill());
  atEnd(scope, () => server.kill()); // in order it takes a second, and nothing is kept
  await epmd.start(async () => true);
  await rabbit.start();
  return rabbit;
}

function rabbitEnv(dir: string, port: number, epmd_port: number, dist_port: number): Record<string, string> {
  return {
    HOME: dir, // for the cookie
    ERL_EPMD_PORT: String(epmd_port),
    ERL_CRASH_DUMP: '/dev/null', // else in the current folder
    RABBITMQ_NODENAME: `nova${port}@localhost`,
    RABBITMQ_DIST_PORT: String(dist_port),
    RABBITMQ_MNESIA_BASE: join(dir, 'data'),
    RABBITMQ_LOG_BASE: join(dir, 'log'),
    RABBITMQ_LOGS: '-',
    RABBITMQ_CONFIG_FILE: join(dir, 'rabbitmq.conf'),
    RABBITMQ_CONF_ENV_FILE: '/dev/null',
    RABBITMQ_ENABLED_PLUGINS_FILE: join(dir, 'plugins'),
    RUNNING_UNDER_SYSTEMD: 'true', // the script becomes the server, so that a signal reaches it
    // One scheduler that sleeps when idle, and smaller tables than those for a million queues.
    RABBITMQ_SERVER_ERL_ARGS: '+P 65536 +t 1048576 +stbt db +zdbbl 32000',
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS:
      '+S 1:1 +A 2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}',
  };
}

/** @returns the certificate's file; its key lies beside it */
async function makeCertificate(dir: string, address: string): Promise<string> {
  const [cert, key] = [join(dir, 'cert.pem'), join(dir, 'key.pem')];
  const words = `-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=broker -addext subjectAltName=IP:${address}`;
  await execute(['openssl', 'req', '-x509', ...words.split(' '), '-keyout', key, '-out', cert]);
  return cert;
}

const rabbitConf = (
  dir: string,
  address: string,
  port: number,
  tls_port: number,
): string => `listeners.tcp.1 = ${address}:${port}
listeners.ssl.1 = ${address}:${tls_port}
ssl_options.certfile = ${dir}/cert.pem
ssl_options.cacertfile = ${dir}/cert.pem
ssl_options.keyfile = ${dir}/key.pem
loopback_users = none
log.console = true
log.console.level = warning
disk_free_limit.absolute = 50MB
`;
