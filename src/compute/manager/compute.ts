import { nowText } from '../../common/clock.ts';
import type { RequestContext } from '../../common/context.ts';
import { nameFlags } from '../../common/core_flags.ts';
import { writing, type NovaDb } from '../../common/db/connect.ts';
import { recordEvent } from '../../common/db/events.ts';
import { finishDelete, instanceById, moveInstance, type Instance } from '../../common/db/instances.ts';
import { guestBridges } from '../../common/db/project_networks.ts';
import { everyHostServes } from '../../common/db/networks.ts';
import { Aborted, Conflict, InstanceBusy, InstanceNotFound } from '../../common/errors.ts';
import { defineFlags, integer, type Flags, type FlagValues } from '../../common/flags.ts';
import type { Log } from '../../common/log.ts';
import type { Manager } from '../../common/manager.ts';
import type { ComputeNetwork, NetworkInfo } from '../../common/network_info.ts';
import type { RpcBus } from '../../common/rpc/bus.ts';
import { instanceResource } from '../../common/rpc/contract.ts';
import { networkClient, type NetworkRpc } from '../../network/rpc.ts';
import { tellStorage } from '../../volume/rpc.ts';
import { vpnImageId } from '../../common/vpn_image.ts';
import type { ComputeDriver, FetchImage, FirewallDriver, GuestSpec } from '../drivers/driver.ts';
import { TASKS } from '../../common/instance_state.ts';
import type { GuestVolume } from '../../common/volume_connection.ts';
import { PowerState } from '../logic/power_state.ts';
import type { ComputeRpc } from '../rpc.ts';
import { FailedLaunches } from './failed_launches.ts';
import { GuestFirewall } from './guest_firewall.ts';
import { guestName, guestSpec } from './guest_spec.ts';
import { reconcileGuest, reconcileGuests } from './reconcile.ts';
import { reconcileVolumes } from './reconcile_volumes.ts';
import { askHypervisor, updateResources } from './resources.ts';
import { GuestVolumes, type VolumeArgs } from './volumes.ts';

export const computeManagerFlags = defineFlags({
  minimum_root_size: integer(10 * 1024 ** 3, 'Bytes a root disk grows to, unless the type has no disk of its own', {
    min: 0,
  }),
  reserved_host_memory_mb: integer(512, 'Memory of this host that guests do not get, MB', { min: 0 }),
});

/** Bytes of console text that one question brings. */
const CONSOLE_LIMIT = 64 * 1024;

export interface ComputeManagerDeps {
  db: NovaDb;
  flags: Flags;
  log: Log;
  bus: RpcBus;
  host: string;
  driver: ComputeDriver;
  /** Null: nothing enforces security groups here. */
  firewall: FirewallDriver | null;
  network: ComputeNetwork;
  fetchImage: FetchImage;
}

/** Runs the guests of one host. Every method goes on from wherever an earlier attempt ended. Source: Nova 2011.3 ComputeManager. */
export class ComputeManager implements ComputeRpc, Manager {
  readonly #d: ComputeManagerDeps;
  readonly #flags: FlagValues<typeof computeManagerFlags>;
  readonly #template: string;
  readonly #network: ReturnType<typeof networkClient>;
  readonly #firewall: GuestFirewall;
  readonly #vpn_image_id: number | null;
  readonly #volumes: GuestVolumes;
  readonly #failed_launches: FailedLaunches;

  constructor(deps: ComputeManagerDeps) {
    this.#d = deps;
    this.#flags = deps.flags.read(computeManagerFlags);
    this.#template = deps.flags.read(nameFlags).instance_name_template;
    this.#network = networkClient(deps.bus);
    this.#firewall = new GuestFirewall(deps);
    this.#vpn_image_id = vpnImageId(deps.flags);
    this.#volumes = new GuestVolumes({ ...deps, template: this.#template });
    this.#failed_launches = new FailedLaunches({
      ...deps,
      template: this.#template,
      firewall: this.#firewall,
      volumes: this.#volumes,
      networkRpc: () => this.#networkRpc(),
    });
  }

  async initHost(signal: AbortSignal): Promise<void> {
    await this.#d.driver.initHost(signal);
    await this.#firewall.initHost(signal);
    await this.#updateResources();
    await this.#reconcile(signal);
  }

  async periodicTasks(ctx: RequestContext): Promise<void> {
    await this.#updateResources();
    await this.#reconcile(ctx.signal);
    await this.#failed_launches.giveBackRest(ctx);
    await this.#firewall.repair();
    const { db, host, network } = this.#d;
    await network.leaveNetworks(() => guestBridges(db, host), ctx.signal);
  }

  #updateResources = (): Promise<void> =>
    updateResources(this.#d.db, this.#d.driver, this.#d.host, this.#flags.reserved_host_memory_mb);
  async #reconcile(signal: AbortSignal): Promise<void> {
    const deps = { ...this.#d, template: this.#template };
    await askHypervisor(deps.db, deps.host, () => reconcileGuests(deps, signal));
    await reconcileVolumes(deps);
  }

  /** Where every host serves the networks it is this host's own nova-network, so that another host's death is not in the way. */
  async #networkRpc(): Promise<
    Pick<NetworkRpc, 'allocateForInstance' | 'deallocateForInstance' | 'getInstanceNwInfo' | 'addFixedIpToInstance'>
  > {
    const { db, host } = this.#d;
    return (await everyHostServes(db)) ? this.#network.at(host) : this.#network;
  }

  async updateAvailableResource(): Promise<void> {
    await this.#updateResources();
  }

  // --------------------------------------------------------------------- run

  async runInstance(ctx: RequestContext, { instance_id }: { instance_id: number }): Promise<void> {
    const { db, host, driver, network } = this.#d;
    const instance = await this.#mine(instance_id, ['networking', 'spawning']);
    if (!instance) return;
    const resource = instanceResource(instance_id);
    const volumes = await this.#volumes.forLaunch(ctx, instance);
    const started = Date.now();
    const nics = await (
      await this.#networkRpc()
    ).allocateForInstance(ctx, {
      instance_id,
      project_id: instance.project_id,
      host,
      hostname: instance.hostname,
      vpn: instance.image_id === this.#vpn_image_id,
    });
    await network.setupComputeNetwork(nics, ctx.signal);
    await this.#firewall.join(ctx, instance_id);
    const networked = Date.now();
    await this.#step(instance_id, {
      from: ['networking', 'spawning'],
      to: { task_state: 'spawning' },
      deadline_s: TASKS.spawning.deadline_s,
      host,
    });
    ctx.signal.throwIfAborted();
    await driver.spawn(await this.#spec(instance, nics, volumes), this.#d.fetchImage, ctx.signal);
    await this.#firewall.plugged();
    const now = nowText();
    await writing(db, async (tx) => {
      await this.#step(
        instance_id,
        {
          from: ['spawning'],
          to: {
            task_state: null,
            vm_state: 'active',
            power_state: PowerState.RUNNING,
            launched_at: now,
            launched_on: host,
            fault: null,
          },
          host,
        },
        tx,
      );
      await this.#volumes.launched(tx, ctx, instance_id);
      await recordEvent(tx, ctx, resource, 'running', host, {
        addresses: nics.map((nic) => nic.address),
        network_ms: networked - started,
        spawn_ms: Date.now() - networked,
      });
    });
  }

  #spec = (instance: Instance, nics: NetworkInfo[], volumes: GuestVolume[]): Promise<GuestSpec> =>
    guestSpec(this.#d.db, instance, nics, volumes, {
      instance_name_template: this.#template,
      minimum_root_gb: Math.ceil(this.#flags.minimum_root_size / 1024 ** 3),
    });

  /** The instance if it is this host's and still in one of these tasks; undefined when the work is done or overtaken. */
  async #mine(id: number, tasks: readonly string[]): Promise<Instance | undefined> {
    const row = await instanceById(this.#d.db, id, { deleted: true });
    if (row.deleted === 0 && row.host === this.#d.host && tasks.includes(row.task_state ?? '')) return row;
    this.#d.log.info(
      { instance_id: id, host: row.host, vm_state: row.vm_state, task_state: row.task_state },
      'nothing left to do',
    );
    return undefined;
  }

  /** A move that a deletion overtook is not an error of this job: the deletion cleans up. */
  async #step(
    id: number,
    move: Parameters<typeof moveInstance>[2],
    db: Parameters<typeof moveInstance>[0] = this.#d.db,
  ): Promise<void> {
    try {
      await moveInstance(db, id, move);
    } catch (err) {
      if (err instanceof InstanceBusy) throw new Aborted(err.message, { cause: err });
      throw err;
    }
  }

  // --------------------------------------------------------------- terminate

  async terminateInstance(ctx: RequestContext, { instance_id }: { instance_id: number }): Promise<void> {
    const { db, driver, host } = this.#d;
    const instance = await this.#mine(instance_id, ['deleting']);
    if (!instance) return;
    await driver.destroy(guestName(this.#template, instance_id), ctx.signal, instance.uuid);
    await (await this.#networkRpc()).deallocateForInstance(ctx, { instance_id });
    await this.#firewall.leave(ctx, instance_id);
    await writing(db, async (tx) => {
      const ended = await finishDelete(tx, instance);
      if (!ended) return;
      await recordEvent(tx, ctx, instanceResource(instance_id), 'deleted', host);
      await tellStorage(tx, ctx, ended, 'its instance was deleted');
    });
  }

  // ------------------------------------------------------------------ reboot

  async rebootInstance(
    ctx: RequestContext,
    { instance_id, reboot_type = 'SOFT' }: { instance_id: number; reboot_type?: 'SOFT' | 'HARD' },
  ): Promise<void> {
    const { db, driver, network, host } = this.#d;
    const instance = await this.#mine(instance_id, ['rebooting']);
    if (!instance) return;
    const nics = await (await this.#networkRpc()).getInstanceNwInfo(ctx, { instance_id });
    await network.setupComputeNetwork(nics, ctx.signal);
    await this.#firewall.refresh();
    const volumes = await this.#volumes.forReboot(ctx, instance_id);
    await driver.reboot(await this.#spec(instance, nics, volumes), reboot_type, ctx.signal);
    await this.#firewall.plugged();
    await writing(db, async (tx) => {
      await this.#step(
        instance_id,
        { from: ['rebooting'], to: { task_state: null, vm_state: 'active', power_state: PowerState.RUNNING }, host },
        tx,
      );
      await recordEvent(tx, ctx, instanceResource(instance_id), 'rebooted', host, { type: reboot_type });
    });
  }

  // ----------------------------------------------------------------- volumes

  attachVolume = (ctx: RequestContext, args: VolumeArgs): Promise<void> => this.#volumes.attach(ctx, args);
  detachVolume = (ctx: RequestContext, args: VolumeArgs): Promise<void> => this.#volumes.detach(ctx, args);

  async freezeInstance(
    _ctx: RequestContext,
    { instance_id, key, seconds }: { instance_id: number; key: string; seconds: number },
  ): Promise<void> {
    const deps = { ...this.#d, template: this.#template };
    try {
      await deps.driver.freeze(guestName(this.#template, instance_id), key, seconds);
    } catch (err) {
      if (err instanceof Conflict) await reconcileGuest(deps, instance_id); // who asked looks there whether it is off
      throw err;
    }
  }
  async thawInstance(
    _ctx: RequestContext,
    { instance_id, key }: { instance_id: number; key: string },
  ): Promise<boolean> {
    return this.#d.driver.thaw(guestName(this.#template, instance_id), key);
  }
  stop = (): Promise<void> => this.#d.driver.thawAll();

  // --------------------------------------------------------------- addresses

  async addFixedIpToInstance(ctx: RequestContext, args: { instance_id: number; network_id: number }): Promise<void> {
    const { instance_id, network_id } = args;
    const { host } = this.#d;
    await (await this.#networkRpc()).addFixedIpToInstance(ctx, { instance_id, host, network_id });
    await this.#firewall.join(ctx, instance_id);
  }

  removeFixedIpFromInstance(ctx: RequestContext, args: { instance_id: number; network_id: number }): Promise<void> {
    return this.addFixedIpToInstance(ctx, args); // DHCP and rules are brought to what the database says, either way
  }

  // --------------------------------------------------------- security groups

  async refreshSecurityGroupRules(): Promise<void> {
    await this.#firewall.refresh();
  }
  async refreshSecurityGroupMembers(): Promise<void> {
    await this.#firewall.refresh();
  }
  async refreshProviderFwRules(): Promise<void> {
    await this.#firewall.refresh();
  }

  async getConsoleOutput(_ctx: RequestContext, { instance_id }: { instance_id: number }): Promise<string> {
    return this.#d.driver.getConsoleOutput(guestName(this.#template, instance_id), CONSOLE_LIMIT);
  }

  // ----------------------------------------------------------------- failure

  async jobFailed(ctx: RequestContext, method: string, args: Record<string, unknown>, err: Error): Promise<void> {
    const instance_id = Number(args['instance_id']);
    if (method === 'run_instance') await this.#failed_launches.end(ctx, instance_id, err);
    if (method === 'reboot_instance') await this.#rebootFailed(ctx, instance_id, err);
    const volume = { instance_id, volume_id: Number(args['volume_id']) };
    if (method === 'attach_volume') await this.#volumes.attachFailed(ctx, volume, err);
    if (method === 'detach_volume') await this.#volumes.detachFailed(ctx, volume, err);
    if (method === 'add_fixed_ip_to_instance' || method === 'remove_fixed_ip_from_instance')
      await recordEvent(
        this.#d.db,
        ctx,
        instanceResource(instance_id),
        'changed addresses not in force yet, the next period tries again',
        this.#d.host,
        { address: String(args['address']), error: err.message },
      );
    if (method === 'terminate_instance')
      await recordEvent(
        this.#d.db,
        ctx,
        instanceResource(instance_id),
        'termination failed, the sweep will try again',
        this.#d.host,
        { error: err.message },
      );
  }

  async #rebootFailed(ctx: RequestContext, instance_id: number, err: Error): Promise<void> {
    const { db, host, driver } = this.#d;
    const power_state = await driver.getInfo(guestName(this.#template, instance_id)).then(
      (info) => info.state,
      (gone: unknown) => {
        if (gone instanceof InstanceNotFound) return PowerState.SHUTOFF;
        throw gone;
      },
    );
    await writing(db, async (tx) => {
      await this.#step(
        instance_id,
        { from: ['rebooting'], to: { task_state: null, power_state, fault: `reboot failed: ${err.message}` }, host },
        tx,
      );
      await recordEvent(tx, ctx, instanceResource(instance_id), 'reboot failed', host, { error: err.message });
    });
  }
}
