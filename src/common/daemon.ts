import { closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { coreFlags, dbFlags, rabbitFlags, serviceFlags } from './core_flags.ts';
import { atStart } from './db/at_start.ts';
import { connectDb, type NovaDb } from './db/connect.ts';
import { ensureSchema } from './db/migrate.ts';
import type { Liveness } from './db/services.ts';
import { FlagsError, NovaError, errorText } from './errors.ts';
import { FlagsExit, loadFlags, type Flags } from './flags.ts';
import { makeLog, type Log } from './log.ts';
import type { RpcBus } from './rpc/bus.ts';
import { publishCasts, type Daemon, type Running } from './service.ts';
import { dropStartGarbage } from './start_garbage.ts';

export type StartDaemon = (daemon: Daemon) => Promise<Running>;

/** The main of every nova-* daemon: flags, log, database, bus, then `start`; SIGTERM stops it in order, a second one at once. */
export async function runDaemon(binary: string, start: StartDaemon): Promise<void> {
  const read = readFlags(binary);
  if (!read) return;
  const { flags, options } = read;
  const log = makeLog(options);
  const idle = flags.idle();
  if (idle.length > 0) log.warn({ flags: idle }, 'these flags of Nova are set and change nothing');
  try {
    await serve(binary, flags, log, start);
  } catch (err) {
    // Who started it reads one line; the log has the rest, unless it is the same standard error.
    if (options.file !== undefined || !(err instanceof NovaError)) log.fatal({ err }, 'not started');
    process.stderr.write(`${binary}: ${errorText(err)}\n`);
    process.exit(err instanceof NovaError ? 2 : 1);
  }
}

/** @throws FlagsError when a single heartbeat that comes late makes a host dead */
function checkLiveness({ service_down_time, report_interval }: Liveness): void {
  if (service_down_time < 2 * report_interval)
    throw new FlagsError(
      `--service_down_time=${service_down_time} is less than twice --report_interval=${report_interval}: ` +
        'a host would count as down whenever one of its heartbeats comes late. Set one of them otherwise, on every host',
    );
}

interface LogOptions {
  name: string;
  level: string;
  file: string | undefined;
}

/** Undefined when the command line asked only for help or the version; ends the process with one line for what is wrong. */
export function readFlags(binary: string): { flags: Flags; options: LogOptions } | undefined {
  try {
    const flags = loadFlags(process.argv.slice(2), { binary });
    const [word] = flags.rest; // what stands behind it was not read as flags
    if (word !== undefined) throw new FlagsError(`'${word}' is no flag: flags begin with --, values follow a =`);
    flags.read({ ...dbFlags, ...rabbitFlags }); // a bad value ends here
    checkLiveness(flags.read(serviceFlags));
    return { flags, options: logOptions(binary, flags) };
  } catch (err) {
    if (err instanceof FlagsExit) {
      process.stdout.write(err.text);
      process.exitCode = err.code;
      return undefined;
    }
    process.stderr.write(`${binary}: ${errorText(err)}\n`);
    process.exit(2);
  }
}

function logOptions(binary: string, flags: Flags): LogOptions {
  const { verbose, logdir, logfile } = flags.read(coreFlags);
  const file = logfile ?? (logdir === null ? undefined : join(logdir, `${binary}.log`));
  if (file !== undefined) checkLogFile(file, logfile === null ? 'logdir' : 'logfile');
  return { name: binary, level: verbose ? 'debug' : 'info', file };
}

/** @throws FlagsError when nothing can be written there */
function checkLogFile(file: string, flag: string): void {
  try {
    mkdirSync(dirname(file), { recursive: true });
    closeSync(openSync(file, 'a'));
  } catch (err) {
    throw new FlagsError(`--${flag}: ${file} cannot be written: ${errorText(err)}`, { cause: err });
  }
}

async function serve(binary: string, flags: Flags, log: Log, start: StartDaemon): Promise<void> {
  const db = await openDatabase(flags, log);
  const bus = await openBus(flags, log);
  publishCasts(db, bus, log);
  const running = await start({ flags, log, db, bus, host: flags.read(coreFlags).host });
  log.info({ binary }, 'ready');
  dropStartGarbage();
  process.on('uncaughtException', (err) => {
    log.fatal({ err }, 'a fault of this program ends it');
    process.exit(1);
  });
  let stopping = false;
  const stop = (signal: string) => {
    if (stopping) process.exit(1);
    stopping = true;
    log.info({ signal }, 'stopping');
    running
      .stop()
      .then(() => bus.close())
      .then(() => db.destroy())
      .then(
        () => process.exit(0),
        (err: unknown) => {
          log.error({ err }, 'not stopped in order');
          process.exit(1);
        },
      );
  };
  process.on('SIGTERM', () => stop('SIGTERM'));
  process.on('SIGINT', () => stop('SIGINT'));
}

/** Waits for a database that is not up yet. @throws DatabaseUnusable that names the flag, NovaError for a schema of another release */
export async function openDatabase(flags: Flags, log: Log): Promise<NovaDb> {
  const db = await connectDb(flags.read(dbFlags).sql_connection);
  await atStart({ flags, log }, () => ensureSchema(db));
  return db;
}

/** `max_retries`: instead of the flag's. */
export async function openBus(flags: Flags, log: Log, options: { max_retries?: number } = {}): Promise<RpcBus> {
  const f = flags.read(rabbitFlags);
  const timeout_ms = f.rpc_response_timeout * 1000;
  if (f.fake_rabbit) {
    const { MemoryBus } = await import('./rpc/memory_bus.ts');
    return new MemoryBus({ timeout_ms });
  }
  const { AmqpBus } = await import('./rpc/amqp_bus.ts'); // not loaded in an all-in-one process
  return AmqpBus.connect({
    host: f.rabbit_host,
    port: f.rabbit_port,
    tls: f.rabbit_use_ssl,
    username: f.rabbit_userid,
    password: f.rabbit_password,
    vhost: f.rabbit_virtual_host,
    exchange: f.control_exchange,
    durable: f.rabbit_durable_queues,
    max_retries: options.max_retries ?? f.rabbit_max_retries,
    retry_interval_s: f.rabbit_retry_interval,
    retry_backoff_s: f.rabbit_retry_backoff,
    response_timeout_ms: timeout_ms,
    log,
  });
}
