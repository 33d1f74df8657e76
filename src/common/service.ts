import { randomUUID } from 'node:crypto';
import { atMost, clock, sleep } from './clock.ts';
import { ClockWatch } from './clock_watch.ts';
import { abortOfMany, adminContext, type RequestContext } from './context.ts';
import { nameFlags, serviceFlags, coreFlags } from './core_flags.ts';
import { atStart } from './db/at_start.ts';
import type { CastHint, NovaDb } from './db/connect.ts';
import {
  heartbeat,
  liveServices,
  registerService,
  signOff,
  type AgreedFlags,
  type ServiceRegistration,
} from './db/services.ts';
import { Aborted, errorText, FlagMismatch, NotFound, RpcUnavailable } from './errors.ts';
import type { Flags, FlagValues } from './flags.ts';
import type { Log } from './log.ts';
import type { Manager } from './manager.ts';
import type { Consumer, RpcBus, RpcMessage } from './rpc/bus.ts';
import type { Contract, RpcInterface } from './rpc/contract.ts';
import { JobWorker, type JobMethod } from './rpc/job_worker.ts';

/** What a daemon's main is given; nova-all gives the same to all. */
export interface Daemon {
  flags: Flags;
  log: Log;
  db: NovaDb;
  bus: RpcBus;
  host: string;
}
export interface Running {
  /** Orderly: no new work, what runs ends within --graceful_stop_timeout or is put back, the services row signs off. */
  stop(): Promise<void>;
}

export interface ServiceOptions<T extends RpcInterface<T>> extends Daemon {
  /** `nova-compute`: the services row is keyed by host and this. */
  binary: string;
  contract: Contract<T>;
  manager: T & Manager;
  /** Flags that this service and its peers must have alike; see design.md 6. */
  agree?: readonly (keyof AgreedFlags)[];
}

/** A job is another's after this many seconds without a renewal. */
const LEASE_S = 30;
const DEAF_AFTER_MS = 5000;
/**
 * Most seconds between this host's clock and the database's: two hosts may then be 10 s apart, which leases that are
 * renewed after a third of their time outlive. A quarter of --service_down_time where that is less.
 */
const CLOCK_LIMIT_S = LEASE_S / 6;
/** What was told to give up gets this long to do so. */
const ABORTED_MS = 5000;

/**
 * Hosts a Manager: registers the services row, answers the contract's methods on `topic` and `topic.host`, runs its jobs,
 * keeps the heartbeat, and runs periodic tasks. Source: Nova 2011.2 nova/service.py.
 */
export class Service<T extends RpcInterface<T>> implements Running {
  readonly #o: ServiceOptions<T>;
  readonly #flags: FlagValues<typeof serviceFlags>;
  readonly #incarnation = randomUUID();
  readonly #stop = abortOfMany();
  readonly #loops: Promise<void>[] = [];
  readonly #clock: ClockWatch;
  #stopping = false;
  #consumer: Consumer | undefined;
  #worker!: JobWorker;

  private constructor(options: ServiceOptions<T>) {
    this.#o = options;
    this.#flags = options.flags.read(serviceFlags);
    const limit_s = Math.min(CLOCK_LIMIT_S, this.#flags.service_down_time / 4);
    this.#clock = new ClockWatch({ ...options, limit_s });
  }

  /** @throws FlagMismatch, ClockDiffers, and whatever the manager's initHost throws */
  static async start<T extends RpcInterface<T>>(options: ServiceOptions<T>): Promise<Service<T>> {
    const service = new Service(options);
    await service.#start();
    return service;
  }

  async #start(): Promise<void> {
    const { db, bus, log, contract, manager, host, binary } = this.#o;
    const topic = contract.topic;
    await atStart(this.#o, () => this.#takeHost());
    this.#worker = new JobWorker({
      db,
      log,
      topic,
      host,
      owner: `${topic}.${host}:${this.#incarnation}`,
      lease_s: LEASE_S,
      methods: this.#jobMethods(),
      onFailed: async (ctx, method, args, err) => manager.jobFailed?.(ctx, method, args, err),
      max_concurrent: this.#flags.max_concurrent_jobs,
      poll_interval_s: this.#flags.job_poll_interval,
    });
    this.#consumer = await bus.consume(topic, host, (message) => this.#handle(message), {
      prefetch: this.#flags.max_concurrent_jobs + 32,
    });
    await atStart(this.#o, () => this.#worker.start());
    bus.onReconnect(() => void this.#worker.poll());
    this.#loop(this.#flags.report_interval, () => this.#report());
    this.#loop(this.#flags.periodic_interval, () => manager.periodicTasks(adminContext({ signal: this.#stop.signal })));
    log.info({ binary, topic, host }, 'service started');
  }

  /** The services row and the manager's first look at its host. Safe to run again. */
  async #takeHost(): Promise<void> {
    await this.#clock.check();
    const agreed = this.#agreedFlags();
    if (!this.#flags.ignore_flag_mismatch) await this.#checkAgreement(agreed);
    await registerService(this.#o.db, this.#registration());
    try {
      // Once more: another that started at the same moment was not there before.
      if (!this.#flags.ignore_flag_mismatch) await this.#checkAgreement(agreed);
      await this.#o.manager.initHost(this.#stop.signal);
    } catch (err) {
      await this.#signOff();
      throw err;
    }
  }

  #jobMethods(): Map<string, JobMethod> {
    const methods = new Map<string, JobMethod>();
    for (const [wire, name] of this.#o.contract.by_wire) {
      const spec = this.#o.contract.methods[name];
      methods.set(wire, {
        run: (ctx, args) => this.#o.manager[name](ctx, args),
        wins: spec.kind === 'cast' && spec.wins,
        patience_s: spec.kind === 'cast' ? spec.patience_s : 0,
      });
    }
    return methods;
  }

  async #handle(message: RpcMessage): Promise<unknown> {
    const { contract, manager, log, host, binary } = this.#o;
    if (message.method === 'ping') return { host, incarnation: this.#incarnation };
    const name = contract.by_wire.get(message.method);
    if (name === undefined) throw new NotFound(`${contract.topic} has no method ${message.method}`);
    const spec = contract.methods[name];
    if (message.job_id !== undefined) {
      const resource = spec.kind === 'cast' && spec.resource ? spec.resource(message.args as never) : null;
      // Not waited for: RabbitMQ ends the connection of who holds a message for 30 minutes, and the row is the truth.
      void this.#worker.offer({ id: message.job_id, resource, method: message.method });
      return null;
    }
    const ctx: RequestContext = { ...message.context, signal: this.#stop.signal };
    try {
      return await manager[name](ctx, message.args);
    } catch (err) {
      log.info({ err, request_id: ctx.request_id, method: message.method }, 'call failed');
      // What ends here does not end the caller's work: it asks again.
      if (ctx.signal.aborted && err instanceof Error && (err instanceof Aborted || err.name === 'AbortError'))
        throw new RpcUnavailable(`${binary} on ${host} stopped before ${message.method} was done`, { cause: err });
      throw err;
    }
  }

  // ---------------------------------------------------------------- liveness

  /**
   * The row is touched only when a message to ourselves comes back: connected but deaf is dead. A broker that is away or
   * takes no messages says nothing of us, and jobs are found in the table; who stops listens to no messages any more.
   */
  async #report(): Promise<void> {
    const audible = () => this.#o.bus.connected && !this.#stopping;
    if (audible())
      await this.#ping().catch((err: unknown) => {
        if (audible()) throw err;
      });
    await heartbeat(this.#o.db, this.#registration(), this.#flags);
    await this.#clock.look();
  }

  /** @throws RpcTimeout, RpcUnavailable, FlagMismatch */
  async #ping(): Promise<void> {
    const { bus, host, binary, contract } = this.#o;
    const pong = await bus.call(
      { topic: contract.topic, host },
      { method: 'ping', args: {}, context: adminContext() },
      { timeout_ms: DEAF_AFTER_MS },
    );
    if ((pong as { incarnation?: unknown }).incarnation !== this.#incarnation)
      throw new FlagMismatch(`another ${binary} answers for host ${host}: give each its own --host`);
  }

  #registration(): ServiceRegistration {
    const { host, binary, contract, flags } = this.#o;
    return {
      host,
      binary,
      topic: contract.topic,
      availability_zone: flags.read(coreFlags).node_availability_zone,
      incarnation: this.#stopping ? '' : this.#incarnation, // signed off
      agreed_flags: this.#agreedFlags(),
      enabled: this.#flags.enable_new_services,
    };
  }

  /** Runs `work` every `seconds`, counted from its end; a failure is told once until it works again, or fails otherwise. */
  #loop(seconds: number, work: () => Promise<void>): void {
    const run = async () => {
      let told: string | undefined;
      for (;;) {
        await sleep(seconds * 1000, this.#stop.signal);
        try {
          await work();
          if (told !== undefined) this.#o.log.info({ binary: this.#o.binary }, 'periodic work goes on');
          told = undefined;
        } catch (err) {
          if (told !== errorText(err)) this.#o.log.error({ err, binary: this.#o.binary }, 'periodic work failed');
          told = errorText(err);
        }
      }
    };
    this.#loops.push(run().catch(() => undefined)); // ends by the stop signal only
  }

  // --------------------------------------------------------------- agreement

  #agreedFlags(): AgreedFlags {
    const all: Required<AgreedFlags> = {
      network_manager: this.#flags.network_manager,
      ...this.#o.flags.read(nameFlags),
    };
    return Object.fromEntries((this.#o.agree ?? []).map((name) => [name, all[name]]));
  }

  async #checkAgreement(mine: AgreedFlags): Promise<void> {
    const { db, host, binary } = this.#o;
    const since = new Date(clock.now().getTime() - this.#flags.service_down_time * 1000).toISOString();
    for (const other of await liveServices(db, since)) {
      if (other.host === host && other.binary === binary) continue;
      const theirs = JSON.parse(other.agreed_flags) as AgreedFlags;
      for (const name of this.#o.agree ?? []) {
        if (theirs[name] === undefined || theirs[name] === mine[name]) continue;
        throw new FlagMismatch(
          `--${name} must be the same on every host: ${binary} on ${host} has ${mine[name]}, the running ${other.binary} on ${other.host} has ${theirs[name]}. ` +
            'Correct the flagfile, or stop the others first (--ignore_flag_mismatch starts anyway)',
        );
      }
    }
  }

  async stop(): Promise<void> {
    const { host, binary, log, manager } = this.#o;
    const grace_ms = this.#flags.graceful_stop_timeout * 1000;
    this.#stopping = true;
    await atMost(ABORTED_MS, this.#signOff()); // nothing new is placed here, while heartbeats go on
    const answered = this.#consumer?.stop();
    await Promise.all([this.#worker.stop(grace_ms, ABORTED_MS), atMost(grace_ms, answered)]);
    this.#stop.abort(new Aborted('the daemon stops'));
    await atMost(ABORTED_MS, Promise.all([...this.#loops, answered]));
    await manager.stop?.().catch((err: unknown) => log.warn({ err }, 'the stop of the manager failed'));
    log.info({ binary, host }, 'service stopped');
  }

  async #signOff(): Promise<void> {
    const { db, host, binary, log } = this.#o;
    await signOff(db, host, binary, this.#incarnation).catch((err: unknown) =>
      log.warn({ err }, 'sign-off not written'),
    );
  }
}

/** Sends the casts of committed transactions; what does not get through is found in the table by its worker. */
export function publishCasts(db: NovaDb, bus: RpcBus, log: Log): void {
  db.afterCommit = (hints: readonly CastHint[]) => {
    for (const { topic, host, ...message } of hints)
      if (bus.connected)
        bus
          .cast({ topic, host }, message)
          .catch((err: unknown) => log.debug({ err, job_id: message.job_id }, 'cast waits in the job table'));
  };
}
