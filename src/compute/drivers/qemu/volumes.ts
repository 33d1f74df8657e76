import { rm } from 'node:fs/promises';
import { BackendUnavailable, Conflict, errorText, InstanceNotFound, NovaError } from '../../../common/errors.ts';
import type { GuestVolume } from '../../../common/volume_connection.ts';
import { PowerState } from '../../logic/power_state.ts';
import { checkAborted } from '../aborted.ts';
import { writeWhole } from '../files.ts';
import { checkPortal, iscsiOf, notPlugged, unplug } from '../volume_unplug.ts';
import { QMP_SOCKET } from './command_line.ts';
import type { QemuGuests } from './guests.ts';
import { qmp } from './qmp.ts';
import { iscsiNode, nodeName, secretFile, secretName } from './volume_words.ts';

/** QEMU logs in to the target before it answers. */
const LOGIN_MS = 30_000;

interface BlockInfo {
  /** `/machine/peripheral/vol-0000000a/virtio-backend` */
  qdev?: string;
  inserted?: { 'node-name'?: string };
}

/**
 * Volumes of QEMU's guests. A volume is three things in its QEMU: a device, whose id is the serial; a block node, in whose
 * name is which connection it is; and a secret. They come in the order secret, node, device, and go in the other.
 */
export class QemuVolumes {
  readonly #guests: QemuGuests;
  readonly #isFrozen: (name: string) => Promise<boolean>;
  readonly #detach_timeout_s: number;

  constructor(guests: QemuGuests, isFrozen: (name: string) => Promise<boolean>, detach_timeout_s: number) {
    this.#guests = guests;
    this.#isFrozen = isFrozen;
    this.#detach_timeout_s = detach_timeout_s;
  }

  async attach(name: string, volume: GuestVolume, signal: AbortSignal): Promise<void> {
    const { serial } = volume;
    const iscsi = iscsiOf(volume.connection, serial);
    checkAborted(signal, `attach of ${serial} at ${name}`);
    const guest = await this.#guests.find(name);
    if (guest === undefined) throw new InstanceNotFound(`no guest ${name} on this host`);
    if (guest.state === PowerState.SHUTOFF) throw new Conflict(`guest ${name} is off`);
    const there = (await this.#devices(name)).get(serial);
    if (there === nodeName(volume)) return;
    await this.detach(name, serial, signal); // an ended attachment's, or a half of one
    await checkPortal(iscsi);
    try {
      const secret = { 'qom-type': 'secret', id: secretName(volume), data: iscsi.auth_password };
      await this.#ask(name, 'object-add', secret);
      await this.#ask(name, 'blockdev-add', iscsiNode(volume), LOGIN_MS);
      const device = { driver: 'virtio-blk-pci', id: serial, drive: nodeName(volume), serial };
      await this.#ask(name, 'device_add', device);
    } catch (err) {
      await this.#clear(name, serial);
      throw notPlugged(name, serial, errorText(err), err);
    }
  }

  async detach(name: string, serial: string, signal: AbortSignal): Promise<void> {
    checkAborted(signal, `detach of ${serial} at ${name}`);
    if (!(await this.#guests.isRunning(name))) return;
    const isGone = async () => !(await this.#devices(name)).has(serial) && (await this.#clear(name, serial));
    if (await isGone()) return;
    const ask = () => this.#unlessDone(name, 'device_del', { id: serial }); // it may be on its way already
    await unplug({ ask, isGone, isFrozen: () => this.#isFrozen(name) }, serial, this.#detach_timeout_s, signal);
  }

  /** A guest that does not answer now is left out. */
  async list(): Promise<Map<string, string[]>> {
    const volumes = new Map<string, string[]>();
    for (const { name, state } of await this.#guests.list()) {
      if (state === PowerState.SHUTOFF) continue;
      try {
        volumes.set(name, [...(await this.#devices(name)).keys()]);
      } catch (err) {
        if (!(err instanceof BackendUnavailable)) throw err;
      }
    }
    return volumes;
  }

  /** For a guest that is to start: the secrets in files, which `forget` takes away when QEMU has read them. */
  async prepare(name: string, volumes: readonly GuestVolume[]): Promise<void> {
    for (const { connection, serial } of volumes) {
      const iscsi = iscsiOf(connection, serial);
      await checkPortal(iscsi);
      await writeWhole(secretFile(this.#guests.dir(name), serial), iscsi.auth_password, 0o600);
    }
  }
  async forget(name: string, volumes: readonly GuestVolume[]): Promise<void> {
    for (const { serial } of volumes) await rm(secretFile(this.#guests.dir(name), serial), { force: true });
  }

  /** Serial of each volume's device to its node. */
  async #devices(name: string): Promise<Map<string, string>> {
    const blocks = (await this.#ask(name, 'query-block')) as BlockInfo[];
    return new Map(
      blocks.flatMap(({ qdev = '', inserted }) => {
        const serial = /^\/machine\/peripheral\/(vol-[0-9a-f]+)\//.exec(qdev)?.[1];
        return serial === undefined ? [] : [[serial, inserted?.['node-name'] ?? ''] as const];
      }),
    );
  }

  /**
   * Deletes nodes and secrets of a volume that has no device.
   * @returns false when a node is left: QEMU has it in use for a moment longer than the device
   */
  async #clear(name: string, serial: string): Promise<boolean> {
    for (const node of await this.#nodes(name, serial))
      await this.#unlessDone(name, 'blockdev-del', { 'node-name': node });
    if ((await this.#nodes(name, serial)).length > 0) return false;
    const objects = (await this.#ask(name, 'qom-list', { path: '/objects' })) as { name: string }[];
    for (const { name: id } of objects)
      if (id.startsWith(`secret-${serial}-`)) await this.#unlessDone(name, 'object-del', { id });
    return true;
  }

  async #nodes(name: string, serial: string): Promise<string[]> {
    const nodes = (await this.#ask(name, 'query-named-block-nodes')) as { 'node-name'?: string }[];
    return nodes.map((node) => node['node-name'] ?? '').filter((node) => node.startsWith(`node-${serial}-`));
  }

  async #unlessDone(name: string, command: string, args: Record<string, unknown>): Promise<void> {
    try {
      await this.#ask(name, command, args);
    } catch (err) {
      if (!(err instanceof NovaError) || err instanceof BackendUnavailable) throw err;
    }
  }

  #ask = (name: string, command: string, args: Record<string, unknown> = {}, timeout_ms = 5000): Promise<unknown> =>
    qmp(this.#guests.dir(name), QMP_SOCKET, command, timeout_ms, args);
}
