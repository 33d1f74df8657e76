import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { nowText } from '../src/common/clock.ts';
import { adminContext } from '../src/common/context.ts';
import type { NovaDb } from '../src/common/db/connect.ts';
import { eventsOf } from '../src/common/db/events.ts';
import { BackendAway } from '../src/common/errors.ts';
import { instanceById, type Instance } from '../src/common/db/instances.ts';
import { listJobs, type Job } from '../src/common/db/jobs.ts';
import { Flags } from '../src/common/flags.ts';
import { silentLog } from '../src/common/log.ts';
import { MemoryBus } from '../src/common/rpc/memory_bus.ts';
import { publishCasts, Service, type Daemon } from '../src/common/service.ts';
import type { GuestVolume } from '../src/common/volume_connection.ts';
import { ComputeApi, type LaunchSpec } from '../src/compute/api.ts';
import type { FetchImage, GuestInfo, GuestSpec } from '../src/compute/drivers/driver.ts';
import { FakeDriver } from '../src/compute/drivers/fake.ts';
import { ComputeManager } from '../src/compute/manager/compute.ts';
import { computeContract } from '../src/compute/rpc.ts';
import { computeNetwork } from '../src/network/compute_side.ts';
import { FakeNetworkDriver } from '../src/network/drivers/fake.ts';
import { FlatDhcpManager } from '../src/network/manager/flat_dhcp.ts';
import { networkContract } from '../src/network/rpc.ts';
import { chance } from '../src/scheduler/logic/chance.ts';
import { SchedulerManager } from '../src/scheduler/manager/scheduler.ts';
import { schedulerContract } from '../src/scheduler/rpc.ts';
import { snapshotById, type Snapshot } from '../src/common/db/snapshots.ts';
import { volumeById, type Volume } from '../src/common/db/volumes.ts';
import { VolumeApi, type CreateVolumeSpec } from '../src/volume/api.ts';
import { FakeVolumeDriver } from '../src/volume/drivers/fake.ts';
import { VolumeManager } from '../src/volume/manager/volume.ts';
import { volumeContract } from '../src/volume/rpc.ts';
import { aContext, aDatabase, anImage, aNetwork, aProject } from './builders.ts';
import { later } from './clock.ts';
import { until } from './until.ts';

/** The fake hypervisor, which does as it is told before each guest. */
export class Hypervisor extends FakeDriver {
  /** As a libvirtd that is down. */
  away = false;
  /** The list is made, and not given yet. */
  afterList: () => Promise<void> = async () => undefined;
  override async listInstances(): Promise<GuestInfo[]> {
    this.#answer();
    const there = await super.listInstances();
    await this.afterList();
    return there;
  }
  override async reboot(...args: Parameters<FakeDriver['reboot']>): Promise<void> {
    this.#answer();
    await super.reboot(...args);
  }
  #answer(): void {
    if (this.away) throw new BackendAway('libvirtd does not answer');
  }
  beforeSpawn: (spec: GuestSpec, signal: AbortSignal) => Promise<void> = async () => undefined;
  override async spawn(spec: GuestSpec, fetch: FetchImage, signal: AbortSignal): Promise<void> {
    await this.beforeSpawn(spec, signal);
    await super.spawn(spec, fetch, signal);
  }
  beforeDetach: (serial: string) => Promise<void> = async () => undefined;
  override async detachVolume(name: string, serial: string, signal: AbortSignal): Promise<void> {
    await this.beforeDetach(serial);
    await super.detachVolume(name, serial, signal);
  }
  beforeAttach: (volume: GuestVolume, signal: AbortSignal) => Promise<void> = async () => undefined;
  override async attachVolume(name: string, volume: GuestVolume, signal: AbortSignal): Promise<void> {
    await this.beforeAttach(volume, signal);
    await super.attachVolume(name, volume, signal);
  }
}
/** The fake network host, likewise before its DHCP server hears of guests. */
class NetworkHost extends FakeNetworkDriver {
  beforeDhcp: () => Promise<void> = async () => undefined;
  override async updateDhcp(...args: Parameters<FakeNetworkDriver['updateDhcp']>): Promise<void> {
    await this.beforeDhcp();
    await super.updateDhcp(...args);
  }
}

/** The fake store, likewise before each operation; the name of the volume or snapshot is given. */
export class Store extends FakeVolumeDriver {
  before: (operation: string, name: string, signal: AbortSignal) => Promise<void> = async () => undefined;
  override async createVolume(...args: Parameters<FakeVolumeDriver['createVolume']>): Promise<string> {
    await this.before('create', args[0].name, args[1]);
    return super.createVolume(...args);
  }
  override async deleteVolume(...args: Parameters<FakeVolumeDriver['deleteVolume']>): Promise<boolean> {
    await this.before('delete', args[0].name, args[1]);
    return super.deleteVolume(...args);
  }
  override async createSnapshot(...args: Parameters<FakeVolumeDriver['createSnapshot']>): Promise<string> {
    const [snapshot, still, signal] = args;
    await this.before('snapshot', snapshot.name, signal);
    const stillThenCopy = async () => {
      const goOn = await still?.();
      try {
        await this.before('copy', snapshot.name, signal);
      } catch (err) {
        await goOn?.();
        throw err;
      }
      return async () => goOn?.();
    };
    return super.createSnapshot(snapshot, still && stillThenCopy, signal);
  }
  override async ensureExport(...args: Parameters<FakeVolumeDriver['ensureExport']>) {
    await this.before('export', args[0].volume.name, args[1]);
    return super.ensureExport(...args);
  }
}
export interface StorageHost {
  driver: Store;
  manager: VolumeManager;
  /** Ends its service in order; the volumes stay with the driver. */
  stop(): Promise<void>;
}

export interface ComputeHost {
  driver: Hypervisor;
  manager: ComputeManager;
  /** Ends its service in order; what runs stays with the driver. */
  stop(): Promise<void>;
}

/**
 * Every service in this process, over one database and the in-process bus, as in nova-all. Only hypervisors and the
 * network host are fake. Periodic tasks run when a test asks for them.
 */
export async function aSmallCloud(t: TestContext, { flags = {} }: { flags?: Record<string, unknown> } = {}) {
  const db = await aDatabase(t);
  await aProject(db);
  await anImage(db);
  await aNetwork(db, { cidr: '10.0.0.0/24' });
  const bus = new MemoryBus();
  publishCasts(db, bus, silentLog);
  const everywhere = {
    network_manager: 'nova.network.manager.FlatDHCPManager',
    fake_network: true,
    my_ip: '192.0.2.1',
    graceful_stop_timeout: 0,
    ...flags,
  };
  const daemon = (host: string, own: Record<string, unknown> = {}): Daemon => {
    return { db, bus, flags: Flags.of({ ...everywhere, ...own }), log: silentLog, host };
  };
  const running = new Set<() => Promise<void>>();
  t.after(async () => {
    for (const stop of [...running].toReversed()) await stop();
  });
  const started = (service: { stop(): Promise<void> }): (() => Promise<void>) => {
    const stop = async () => {
      if (running.delete(stop)) await service.stop();
    };
    running.add(stop);
    return stop;
  };

  const network_host = new NetworkHost();
  const network = new FlatDhcpManager({ ...daemon('net1'), driver: network_host });
  const startNetwork = async () =>
    started(
      await Service.start({ ...daemon('net1'), binary: 'nova-network', contract: networkContract, manager: network }),
    );
  let stopNetwork = await startNetwork();
  const scheduler = new SchedulerManager({ ...daemon('ctl'), rule: chance });
  const service = { ...daemon('ctl'), binary: 'nova-scheduler', contract: schedulerContract, manager: scheduler };
  started(await Service.start(service));
  const api = new ComputeApi(daemon('ctl'));
  const volumes = new VolumeApi(daemon('ctl'));
  const untilVolume = (id: number, status: string): Promise<Volume> =>
    untilStatus(`volume ${id}`, () => volumeById(db, id, { deleted: true }), status);

  return {
    db,
    api,
    network,
    network_host,
    stopNetwork: () => stopNetwork(),
    startNetwork: async () => void (stopNetwork = await startNetwork()),
    scheduler,
    /** A nova-compute; with `driver` one that starts again on a host with guests. */
    async computeHost(host: string, own: Record<string, unknown> = {}, driver?: Hypervisor): Promise<ComputeHost> {
      const mine = daemon(host, own);
      const hypervisor = driver ?? new Hypervisor(mine);
      const manager = new ComputeManager({
        ...mine,
        driver: hypervisor,
        firewall: null,
        network: await computeNetwork(mine),
        fetchImage: async () => undefined,
      });
      const stop = started(
        await Service.start({ ...mine, binary: 'nova-compute', contract: computeContract, manager }),
      );
      return { driver: hypervisor, manager, stop };
    },
    volumes,
    /** A nova-volume; with `driver` one that starts again on a host with volumes. */
    async storageHost(host = 'store1', own: Record<string, unknown> = {}, driver?: Store): Promise<StorageHost> {
      const mine = daemon(host, own);
      const store = driver ?? new Store(mine);
      const manager = new VolumeManager({ ...mine, driver: store, volume_driver: 'fake' });
      const stop = started(await Service.start({ ...mine, binary: 'nova-volume', contract: volumeContract, manager }));
      return { driver: store, manager, stop };
    },
    /** One of 1 GiB, available. @returns its number */
    async volume(over: Partial<CreateVolumeSpec> = {}): Promise<number> {
      const { id } = await volumes.create(aContext(), { size: 1, ...over });
      await untilVolume(id, 'available');
      return id;
    },
    /** The row, once it has this status; `deleted` when it is gone. */
    untilVolume,
    untilSnapshot: (id: number, status: string): Promise<Snapshot> =>
      untilStatus(`snapshot ${id}`, () => snapshotById(db, id, { deleted: true }), status),
    /** One m1.tiny. @returns its number */
    async launch(over: Partial<LaunchSpec> = {}): Promise<number> {
      const spec = { image_id: 1, instance_type: 'm1.tiny', min_count: 1, max_count: 1, ...over };
      return (await api.create(aContext(), spec)).instances[0]?.id ?? assert.fail('no instance');
    },
    /** The row, once it is in this state: `active`, `building/spawning`, `deleted`. */
    until: (id: number, state: string): Promise<Instance> => untilInstance(db, id, state),
    sweep: (): Promise<void> => scheduler.periodicTasks(adminContext()),
    /** Services report now, those of hosts that are `down` do not. */
    async report(...down: string[]): Promise<void> {
      const query = db.updateTable('services').set({ updated_at: nowText() });
      await (down.length > 0 ? query.where('host', 'not in', down) : query).execute();
    },
    /** What was taken for instances and not given back: claims of hosts, addresses with their cards. */
    async taken(): Promise<{ memory_mb: number; addresses: string[]; cards: number }> {
      const nodes = await db.selectFrom('compute_nodes').select('memory_mb_used').execute();
      const ips = await db.selectFrom('fixed_ips').select('address').where('allocated', '=', 1).execute();
      const cards = await db.selectFrom('virtual_interfaces').select('id').execute();
      return {
        memory_mb: nodes.reduce((sum, node) => sum + node.memory_mb_used, 0),
        addresses: ips.map((ip) => ip.address),
        cards: cards.length,
      };
    },
    /** Each event of an instance's story. */
    story: async (id: number): Promise<string[]> => (await eventsOf(db, `instance:${id}`)).map(({ event }) => event),
    /** Once an instance's story has this event. */
    async untilTold(id: number, event: string): Promise<void> {
      await until(`instance ${id} has an event ${event}`, async () =>
        (await eventsOf(db, `instance:${id}`)).some((told) => told.event === event),
      );
    },
    /** The clock goes on, to when the waiting job of an instance is tried again at least, and it has been. */
    async nextTry(t: TestContext, id: number, seconds = 11): Promise<void> {
      const waiting = async () => (await listJobs(db, { resource: `instance:${id}`, state: 'queued' }))[0];
      const before = await until(`instance ${id} has a job that waits`, waiting);
      later(t, seconds);
      await until(`the job of instance ${id} is tried again`, async () => {
        const job = await waiting();
        return job && job.updated_at !== before.updated_at;
      });
    },
    /** Jobs of an instance, oldest first, once none of them waits or runs. */
    settledJobs: (id: number): Promise<Job[]> =>
      until(`the jobs of instance ${id} have ended`, async () => {
        const jobs = await listJobs(db, { resource: `instance:${id}` });
        return jobs.every(({ state }) => state === 'done' || state === 'failed') && jobs.toReversed();
      }),
  };
}
export type SmallCloud = Awaited<ReturnType<typeof aSmallCloud>>;

export const NOTHING_TAKEN = { memory_mb: 0, addresses: [], cards: 0 };

async function untilInstance(db: NovaDb, id: number, wanted: string): Promise<Instance> {
  let state = '';
  const look = async () => {
    const row = await instanceById(db, id, { deleted: true });
    state = row.task_state === null ? row.vm_state : `${row.vm_state}/${row.task_state}`;
    return state === wanted && row;
  };
  return until(`instance ${id} is ${wanted}`, look, () => `it is ${state}`);
}

/** @param read a volume's row, or a snapshot's */
async function untilStatus<Row extends Pick<Volume, 'status' | 'fault' | 'deleted'>>(
  name: string,
  read: () => Promise<Row>,
  wanted: string,
): Promise<Row> {
  let last = '';
  const look = async () => {
    const row = await read();
    const status = row.deleted === 1 ? 'deleted' : row.status;
    last = `${status} (${row.fault ?? ''})`;
    return status === wanted && row;
  };
  return until(`${name} is ${wanted}`, look, () => `it is ${last}`);
}
