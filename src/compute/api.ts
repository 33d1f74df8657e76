import { randomBytes } from 'node:crypto';
import { checkSameRequest, requestHash } from '../common/client_token.ts';
import { textIn } from '../common/clock.ts';
import type { RequestContext } from '../common/context.ts';
import { boolean, defineFlags, integer, string, type Flags, type FlagValues } from '../common/flags.ts';
import { lockProject, writing, type NovaDb, type Tx } from '../common/db/connect.ts';
import { recordEvent } from '../common/db/events.ts';
import { visibleImage, ec2ImageId, NO_IMAGE, type Image } from '../common/db/images.ts';
import {
  finishDelete,
  insertInstance,
  instanceUsage,
  lockInstance,
  moveInstance,
  visibleInstance,
} from '../common/db/instances.ts';
import { flavorById, instanceTypeByName } from '../common/db/instance_types.ts';
import { castJob } from '../common/db/jobs.ts';
import { setMetadataOptions, type MetadataOptions } from '../common/db/instance_updates.ts';
import { getKeyPair } from '../common/db/key_pairs.ts';
import { insertReservation, reservationByToken } from '../common/db/reservations.ts';
import { checkZone } from '../common/db/services.ts';
import { projectQuota, quotaFlags, type ProjectQuota } from '../common/db/quotas.ts';
import { ensureDefaultGroup, groupIdsByName } from '../common/db/security_groups.ts';
import {
  Conflict,
  ImageNotActive,
  InstanceBusy,
  InstanceLimitExceeded,
  InstanceNotFound,
  InvalidInput,
} from '../common/errors.ts';
import type { RpcBus } from '../common/rpc/bus.ts';
import { instanceResource } from '../common/rpc/contract.ts';
import { schedulerClient } from '../scheduler/rpc.ts';
import { tellStorage } from '../volume/rpc.ts';
import { TASKS, whyNoReboot } from '../common/instance_state.ts';
import { VolumeApi } from '../volume/api.ts';
import { launchVolumes, type BlockDeviceMapping, type LaunchVolume } from './logic/block_devices.ts';
import { allowedInstances } from './logic/quota.ts';
import { computeClient } from './rpc.ts';
import { viewInstances, type InstanceFilter, type InstanceView } from '../common/db/instance_views.ts';

export const computeApiFlags = defineFlags({
  default_instance_type: string('m1.small', 'Instance type of a request that names none'),
  max_instances_per_request: integer(1000, 'Instances that one request may ask for', { min: 1 }),
  use_ipv6: boolean(false, 'Give networks and guests IPv6 as well'),
});

/** One launch, already checked for form by the API that took it. */
export interface LaunchSpec {
  /** Null: it boots from a volume of its mapping. */
  image_id: number | null;
  /** Undefined: as the image says; null: boot the disk itself. */
  kernel_id?: number | null;
  ramdisk_id?: number | null;
  /** A type's name, or its flavorid; undefined is the default type. */
  instance_type?: string | { flavorid: number };
  min_count: number;
  max_count: number;
  key_name?: string | null;
  /** Base64. */
  user_data?: string | null;
  /** Names; empty is `default`. */
  security_groups?: readonly string[];
  /** A zone that compute hosts are in; an administrator's may be `zone:host`. */
  availability_zone?: string | null;
  display_name?: string;
  display_description?: string;
  metadata?: Record<string, string>;
  metadata_options?: MetadataOptions;
  /** Volumes that it has from the start. */
  block_device_mapping?: readonly BlockDeviceMapping[];
  /** The same token with the same spec is the same launch. */
  client_token?: string | null;
}

export interface Reservation {
  reservation_id: string;
  instances: InstanceView[];
}

interface ResolvedLaunch {
  kernel_id: number | null;
  ramdisk_id: number | null;
  type: { id: number; name: string; memory_mb: number; vcpus: number; local_gb: number };
  key: { name: string; public_key: string } | undefined;
  volumes: LaunchVolume[];
}

const METADATA_LENGTH = 255;
/** Nova's limit: 64 KiB in base64. AWS's own is a third of it. */
export const USER_DATA_BYTES = 48 * 1024;

/** What both HTTP APIs call. Quota, rows and a cast in one transaction. Source: Nova 2011.3 nova/compute/api.py. */
export class ComputeApi {
  readonly #db: NovaDb;
  readonly #flags: FlagValues<typeof computeApiFlags>;
  readonly #quotas: FlagValues<typeof quotaFlags>;
  readonly #compute: ReturnType<typeof computeClient>;
  readonly #scheduler: ReturnType<typeof schedulerClient>;
  readonly #volumes: VolumeApi;

  constructor({ db, flags, bus }: { db: NovaDb; flags: Flags; bus: RpcBus }) {
    this.#db = db;
    this.#flags = flags.read(computeApiFlags);
    this.#quotas = flags.read(quotaFlags);
    this.#compute = computeClient(bus);
    this.#scheduler = schedulerClient(bus);
    this.#volumes = new VolumeApi({ db, flags, bus });
  }

  /**
   * Launches between min_count and max_count instances, as many as the quota allows.
   * @throws ImageNotFound, ImageNotActive, InstanceTypeNotFound, KeyPairNotFound, SecurityGroupNotFound,
   * InstanceLimitExceeded, IdempotentParameterMismatch, InvalidInput
   */
  async create(ctx: RequestContext, spec: LaunchSpec): Promise<Reservation> {
    const { user_id, project_id } = requireOwner(ctx);
    this.#checkForm(spec);
    const made = await writing(this.#db, async (tx) => {
      await lockProject(tx, this.#db.dialect, project_id);
      const before = await this.#sameRequest(tx, project_id, spec);
      if (before) return before;
      const zone = spec.availability_zone?.split(':', 1)[0];
      if (zone) await checkZone(tx, 'compute', zone);
      const launch = await this.#resolve(tx, ctx, spec);
      const quota = await projectQuota(tx, this.#quotas, project_id);
      checkMetadata(spec.metadata ?? {}, quota.metadata_items);
      const count = await this.#allowed(tx, project_id, quota, spec, launch.type);
      const reservation_id = `r-${randomText(8)}`;
      await insertReservation(tx, {
        reservation_id,
        project_id,
        client_token: spec.client_token ?? null,
        request_hash: requestHash(spec),
      });
      await ensureDefaultGroup(tx, project_id, user_id);
      const names = spec.security_groups?.length ? spec.security_groups : ['default'];
      const groups = await groupIdsByName(tx, project_id, [...new Set(names)]);
      const { type, key, volumes, ...kernel } = launch;
      for (let launch_index = 0; launch_index < count; launch_index++) {
        const id = await insertInstance(tx, groups, spec.metadata ?? {}, spec.display_name, {
          ...kernel,
          user_id,
          project_id,
          reservation_id,
          launch_index,
          image_id: spec.image_id ?? NO_IMAGE,
          instance_type_id: type.id,
          memory_mb: type.memory_mb,
          vcpus: type.vcpus,
          local_gb: type.local_gb,
          key_name: key?.name ?? null,
          key_data: key?.public_key ?? null,
          user_data: spec.user_data ?? null,
          availability_zone: zoneAsked(ctx, spec.availability_zone ?? null),
          ...spec.metadata_options,
          display_description: spec.display_description ?? '',
          task_deadline: textIn(TASKS.scheduling.deadline_s),
        });
        await recordEvent(tx, ctx, instanceResource(id), 'asked for', null, {
          ...(spec.image_id === null ? {} : { image: ec2ImageId(spec.image_id) }),
          instance_type: launch.type.name,
          from: ctx.remote_address,
        });
        await this.#volumes.attachAtLaunch(tx, ctx, id, volumes);
        await castJob(tx, ctx, this.#scheduler.runInstance, { instance_id: id });
      }
      return reservation_id;
    });
    return { reservation_id: made, instances: await this.list(ctx, { reservation_id: made, deleted: true }) };
  }

  #checkForm({ min_count, max_count, user_data }: LaunchSpec): void {
    const { max_instances_per_request } = this.#flags;
    if (!Number.isInteger(min_count) || !Number.isInteger(max_count) || min_count < 1 || max_count < min_count)
      throw new InvalidInput(`${min_count} to ${max_count} is no count of instances: 1 <= MinCount <= MaxCount`);
    if (min_count > max_instances_per_request)
      throw new InvalidInput(`${min_count} instances in one request; at most ${max_instances_per_request} are taken`);
    const bytes = Buffer.byteLength(user_data ?? '', 'base64');
    if (bytes > USER_DATA_BYTES)
      throw new InvalidInput(`the user data has ${bytes} bytes; at most ${USER_DATA_BYTES} are taken`);
  }

  async #sameRequest(tx: Tx, project_id: string, spec: LaunchSpec): Promise<string | undefined> {
    if (!spec.client_token) return undefined;
    const before = await reservationByToken(tx, project_id, spec.client_token);
    if (before) checkSameRequest(spec, before);
    return before?.reservation_id;
  }

  /** What the names of the spec stand for. */
  async #resolve(tx: Tx, ctx: RequestContext, spec: LaunchSpec): Promise<ResolvedLaunch> {
    const image = spec.image_id === null ? undefined : await visibleImage(tx, ctx, spec.image_id);
    if (image) usable(image, ['ami', 'bare']);
    const volumes = launchVolumes(spec.block_device_mapping ?? [], rootDeviceOf(image));
    if (!image && !volumes.some((volume) => volume.boot))
      throw new InvalidInput('a launch needs an image, or a block device mapping of /dev/vda to boot from');
    const shared = volumes.find(({ volume_id }) => volume_id !== null);
    if (shared && spec.min_count > 1)
      throw new InvalidInput(`${shared.device} is one volume, which ${spec.min_count} instances cannot have`);
    const part = async (
      id: number | null | undefined,
      fallback: number | null,
      format: string,
    ): Promise<number | null> => {
      const wanted = id === undefined ? fallback : id;
      if (wanted !== null) usable(await visibleImage(tx, ctx, wanted), [format]);
      return wanted;
    };
    const kernel_id = await part(spec.kernel_id, image?.kernel_id ?? null, 'aki');
    const ramdisk_id = kernel_id === null ? null : await part(spec.ramdisk_id, image?.ramdisk_id ?? null, 'ari');
    const wanted = spec.instance_type ?? this.#flags.default_instance_type;
    const type =
      typeof wanted === 'string' ? await instanceTypeByName(tx, wanted) : await flavorById(tx, wanted.flavorid);
    const key = spec.key_name ? await getKeyPair(tx, ctx.user_id ?? '', spec.key_name) : undefined;
    return { kernel_id, ramdisk_id, type, key, volumes };
  }

  async #allowed(
    tx: Tx,
    project_id: string,
    quota: ProjectQuota,
    spec: LaunchSpec,
    type: { vcpus: number; memory_mb: number },
  ): Promise<number> {
    const one = spec.block_device_mapping?.some(({ volume_id }) => typeof volume_id === 'number'); // which one can have
    const asked = one ? 1 : Math.min(spec.max_count, this.#flags.max_instances_per_request);
    const { allowed, why } = allowedInstances(quota, await instanceUsage(tx, project_id), asked, type);
    if (allowed >= spec.min_count) return allowed;
    throw new InstanceLimitExceeded(
      `${allowed} of ${spec.min_count} instances fit into the quota of project ${project_id} (${why}). Terminate some, ask for fewer, or have the quota raised`,
    );
  }

  /** The caller's instances (an admin's: all), oldest first. */
  list(ctx: RequestContext, filter: InstanceFilter = {}): Promise<InstanceView[]> {
    return viewInstances(this.#db, ctx, { ...filter, use_ipv6: this.#flags.use_ipv6 });
  }

  /** By number or uuid. @throws InstanceNotFound */
  async get(ctx: RequestContext, id: number | string): Promise<InstanceView> {
    const row = await visibleInstance(this.#db, ctx, id);
    const [view] = await viewInstances(this.#db, ctx, { ids: [row.id], use_ipv6: this.#flags.use_ipv6 });
    return view ?? Promise.reject(new InstanceNotFound(`instance ${id} was deleted just now`));
  }

  /** Ends it from every state; asking again is no error. @returns it as it was. @throws InstanceNotFound */
  async terminate(ctx: RequestContext, id: number | string): Promise<InstanceView> {
    const before = await this.get(ctx, id);
    await writing(this.#db, async (tx) => {
      const row = await lockInstance(tx, this.#db.dialect, before.id);
      if (!row || row.task_state === 'deleting') return; // gone meanwhile, or on its way: as asked
      const resource = instanceResource(row.id);
      if (row.host === null) {
        const ended = await finishDelete(tx, row);
        await recordEvent(tx, ctx, resource, 'deleted before it had a host', null);
        await tellStorage(tx, ctx, ended ?? [], 'its instance was deleted');
        return;
      }
      await moveInstance(tx, row.id, {
        from: [row.task_state],
        to: { task_state: 'deleting' },
        deadline_s: TASKS.deleting.deadline_s,
      });
      await recordEvent(tx, ctx, resource, 'termination asked for', row.host, { from: ctx.remote_address });
      await castJob(tx, ctx, this.#compute.at(row.host).terminateInstance, { instance_id: row.id });
    });
    return before;
  }

  /** @throws InstanceNotFound, InstanceBusy */
  async reboot(ctx: RequestContext, id: number | string, reboot_type: 'SOFT' | 'HARD' = 'SOFT'): Promise<void> {
    await writing(this.#db, async (tx) => {
      const { id: number } = await visibleInstance(tx, ctx, id);
      const row = await lockInstance(tx, this.#db.dialect, number);
      if (!row) throw new InstanceNotFound(`instance ${id} was deleted just now`);
      const why = whyNoReboot(row);
      if (row.task_state === 'rebooting') return;
      if (why !== undefined || row.host === null)
        throw new InstanceBusy(`instance ${id} cannot be rebooted: ${why ?? 'it has no host'}`);
      await moveInstance(tx, row.id, {
        from: [null],
        to: { task_state: 'rebooting' },
        deadline_s: TASKS.rebooting.deadline_s,
      });
      await recordEvent(tx, ctx, instanceResource(row.id), 'reboot asked for', row.host, { type: reboot_type });
      await castJob(tx, ctx, this.#compute.at(row.host).rebootInstance, { instance_id: row.id, reboot_type });
    });
  }

  /** How the metadata service answers it from now; what is left out stays. @returns it as it is then. @throws InstanceNotFound */
  async modifyMetadataOptions(ctx: RequestContext, id: number, options: MetadataOptions): Promise<InstanceView> {
    const row = await visibleInstance(this.#db, ctx, id);
    await writing(this.#db, async (tx) => {
      await setMetadataOptions(tx, row.id, options);
      await recordEvent(tx, ctx, instanceResource(row.id), 'metadata options changed', null, { ...options });
    });
    return this.get(ctx, row.id);
  }

  /** The end of its serial console; empty while it has no host. @throws InstanceNotFound, RpcUnavailable */
  async consoleOutput(ctx: RequestContext, id: number | string): Promise<string> {
    const row = await visibleInstance(this.#db, ctx, id);
    if (row.host === null) return '';
    return this.#compute.at(row.host).getConsoleOutput(ctx, { instance_id: row.id });
  }
}

function requireOwner(ctx: RequestContext): { user_id: string; project_id: string } {
  if (ctx.user_id === null || ctx.project_id === null) throw new Conflict('a launch needs a user and a project');
  return { user_id: ctx.user_id, project_id: ctx.project_id };
}

function checkMetadata(metadata: Record<string, string>, limit: number | null): void {
  const pairs = Object.entries(metadata);
  if (limit !== null && pairs.length > limit)
    throw new InvalidInput(`${pairs.length} metadata pairs; an instance holds at most ${limit}`);
  for (const [key, value] of pairs)
    if (key.length === 0 || key.length > METADATA_LENGTH || value.length > METADATA_LENGTH)
      throw new InvalidInput(
        `metadata ${key.slice(0, 40)}: a key has 1 to ${METADATA_LENGTH} characters, a value up to ${METADATA_LENGTH}`,
      );
}

/** `root_device_name` of an image's properties. */
function rootDeviceOf(image: Image | undefined): string | null {
  const properties = JSON.parse(image?.properties || '{}') as Record<string, unknown>;
  const name = properties['root_device_name'];
  return typeof name === 'string' && name !== '' ? name : null;
}

function usable(image: Image, formats: readonly string[]): void {
  const id = ec2ImageId(image.id, image.container_format);
  if (image.status !== 'active')
    throw new ImageNotActive(
      `image ${id} is ${image.status}${image.fault === null ? '' : ` (${image.fault})`}; only an active image boots`,
    );
  if (!formats.includes(image.container_format))
    throw new InvalidInput(
      `image ${id} is of format ${image.container_format}; here ${formats.join(' or ')} is needed`,
    );
}

const LETTERS = '0123456789abcdefghijklmnopqrstuvwxyz';
const randomText = (length: number): string => Array.from(randomBytes(length), (byte) => LETTERS[byte % 36]).join('');

/** Only an admin names a host (`zone:host`). */
const zoneAsked = (ctx: RequestContext, text: string | null): string | null =>
  ctx.is_admin ? text : (text?.split(':', 1)[0] ?? null);
