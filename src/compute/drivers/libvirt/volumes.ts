import { createHash } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { Conflict, errorText, InstanceNotFound, ProcessExecutionError } from '../../../common/errors.ts';
import type { GuestVolume } from '../../../common/volume_connection.ts';
import { checkAborted } from '../aborted.ts';
import type { InstanceFiles } from '../instance_files.ts';
import { checkPortal, iscsiOf, notPlugged, unplug } from '../volume_unplug.ts';
import { isActive, type Domains } from './domains.ts';
import type { Virsh } from './virsh.ts';
import {
  escapeXml,
  sourceOf,
  targetOf,
  targets,
  unplugXml,
  volumeDisks,
  volumeXml,
  type VolumeDisk,
} from './volume_xml.ts';

export interface LibvirtVolumesDeps {
  virsh: Virsh;
  domains: Domains;
  files: InstanceFiles;
  isFrozen(name: string): Promise<boolean>;
  detach_timeout_s: number;
}

/**
 * Volumes of libvirt's guests. A guest has at most one disk of a volume, by its alias; the password goes from a file that
 * nobody else can read into a secret of libvirtd, which is defined anew before each use and known by guest and serial.
 */
export class LibvirtVolumes {
  readonly #d: LibvirtVolumesDeps;

  constructor(deps: LibvirtVolumesDeps) {
    this.#d = deps;
  }

  async attach(name: string, volume: GuestVolume, signal: AbortSignal): Promise<void> {
    const iscsi = iscsiOf(volume.connection, volume.serial);
    checkAborted(signal, `attach of ${volume.serial} at ${name}`);
    const uuid = await this.#uuid(name);
    await checkPortal(iscsi);
    // The usual case in one virsh: libvirt itself refuses a guest that is off, and a disk or a name that is there already.
    const first = await this.#plug(name, uuid, volume, volume.device);
    if (first === undefined) return;
    const [live = ''] = await this.#xml(uuid);
    const there = volumeDisks(live).find(({ serial }) => serial === volume.serial);
    if (there !== undefined) {
      if (there.auth_username === iscsi.auth_username && there.source === sourceOf(iscsi)) return;
      await this.detach(name, volume.serial, signal); // of an attachment that ended: its session is void
    } else if (!targets(live).includes(volume.device)) throw await this.#why(name, uuid, volume, first);
    const second = await this.#plug(name, uuid, volume, targetOf(volume.device, targets(live)));
    if (second !== undefined) throw await this.#why(name, uuid, volume, second);
  }

  /** @returns why it failed */
  async #plug(name: string, uuid: string, volume: GuestVolume, target: string): Promise<Error | undefined> {
    const xml = this.#d.files.path(name, `${volume.serial}.xml`);
    await writeFile(xml, volumeXml(volume, target, this.secretUuid(name, volume.serial)), { mode: 0o600 });
    try {
      await this.#withSecrets(name, [volume], (define) =>
        this.#d.virsh.script([...define, ['attach-device', uuid, xml, '--live']]),
      );
      return undefined;
    } catch (err) {
      if (err instanceof ProcessExecutionError) return err;
      throw err;
    } finally {
      await rm(xml, { force: true });
    }
  }

  /** What a failed attach was: the guest's, the storage's or nobody's fault. */
  async #why(name: string, uuid: string, { serial }: GuestVolume, err: Error): Promise<Error> {
    await this.#forgetSecret(name, serial);
    const domain = await this.#d.domains.find(name);
    if (domain === undefined || domain.uuid !== uuid)
      return new InstanceNotFound(`no guest ${name} at ${this.#d.virsh.uri}`);
    if (!isActive(domain)) return new Conflict(`guest ${name} is off`);
    return notPlugged(name, serial, reason(errorText(err)), err);
  }

  async detach(name: string, serial: string, signal: AbortSignal): Promise<void> {
    checkAborted(signal, `detach of ${serial} at ${name}`);
    const uuid = await this.#d.files.owner(name);
    if (uuid === undefined) return;
    const find = (xml: string | undefined) => volumeDisks(xml ?? '').find((disk) => disk.serial === serial);
    const [live, config] = await this.#xml(uuid);
    const asleep = find(config);
    if (asleep !== undefined) await this.#unplugNow(name, uuid, asleep, '--config');
    const disk = find(live);
    let there = disk;
    if (disk === undefined) await this.#forgetSecret(name, serial);
    else
      await unplug(
        {
          ask: async () => {
            there = find(await this.#unplugNow(name, uuid, disk, '--live'));
          },
          isGone: async () => {
            if (there !== undefined) there = find((await this.#xml(uuid))[0]);
            return there === undefined;
          },
          isFrozen: () => this.#d.isFrozen(name),
        },
        serial,
        this.#d.detach_timeout_s,
        signal,
      );
  }

  /** @returns the domain's XML after it; libvirt waits some seconds for the guest */
  async #unplugNow(name: string, uuid: string, disk: VolumeDisk, how: '--live' | '--config'): Promise<string> {
    const path = this.#d.files.path(name, `${disk.serial}.xml`);
    await writeFile(path, unplugXml(disk), { mode: 0o600 });
    try {
      // A QEMU that has the secret does not ask for it again.
      const [, , xml = ''] = await this.#d.virsh.try([
        ['detach-device', uuid, path, how],
        ['secret-undefine', this.secretUuid(name, disk.serial)],
        ['dumpxml', uuid],
      ]);
      return xml;
    } finally {
      await rm(path, { force: true });
    }
  }

  /** As it runs, '' when it does not; and as it will start. */
  async #xml(uuid: string): Promise<string[]> {
    const [state = '', xml = '', inactive = ''] = await this.#d.virsh.ask([
      ['domstate', '--domain', uuid],
      ['dumpxml', uuid],
      ['dumpxml', uuid, '--inactive'],
    ]);
    return [state === '' || /shut off|crashed/.test(state) ? '' : xml, inactive];
  }

  async list(): Promise<Map<string, string[]>> {
    const active = (await this.#d.domains.list()).filter(isActive);
    if (active.length === 0) return new Map();
    const xmls = await this.#d.virsh.ask(active.map(({ uuid }) => ['dumpxml', uuid]));
    return new Map(active.map(({ name }, i) => [name, volumeDisks(xmls[i] ?? '').map(({ serial }) => serial)]));
  }

  // ------------------------------------------------------------------ secrets

  /** Before a guest starts with these volumes. */
  async defineSecrets(name: string, volumes: readonly GuestVolume[]): Promise<void> {
    for (const { connection, serial } of volumes) await checkPortal(iscsiOf(connection, serial));
    if (volumes.length > 0) await this.#withSecrets(name, volumes, (define) => this.#d.virsh.script(define));
  }

  secretUuid(name: string, serial: string): string {
    const hex = createHash('sha256').update(this.#usage(name, serial)).digest('hex');
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
  }
  #usage = (name: string, serial: string): string => `${name} ${serial} ${this.#d.files.root}`;

  /** Runs `work` with the commands that define the secrets, whose values are in files meanwhile. */
  async #withSecrets<T>(
    name: string,
    volumes: readonly GuestVolume[],
    work: (define: string[][]) => Promise<T>,
  ): Promise<T> {
    const files: string[] = [];
    const file = async (serial: string, kind: string, text: string) => {
      const path = this.#d.files.path(name, `${serial}.${kind}`);
      files.push(path);
      await writeFile(path, text, { mode: 0o600 });
      return path;
    };
    try {
      const define: string[][] = [];
      for (const { serial, connection } of volumes) {
        const uuid = this.secretUuid(name, serial);
        const xml = secretXml(uuid, this.#usage(name, serial));
        const value = await file(serial, 'value', iscsiOf(connection, serial).auth_password);
        define.push(
          ['secret-define', await file(serial, 'secret', xml)],
          ['secret-set-value', uuid, '--file', value, '--plain'],
        );
      }
      return await work(define);
    } finally {
      for (const path of files) await rm(path, { force: true });
    }
  }

  async #forgetSecret(name: string, serial: string): Promise<void> {
    await this.#d.virsh.try([['secret-undefine', this.secretUuid(name, serial)]]);
  }

  /** Of a guest that goes. */
  async forgetSecrets(name: string): Promise<void> {
    const [list = ''] = await this.#d.virsh.ask([['secret-list']]);
    const uuids = list.split('\n').flatMap((line) => {
      const [, uuid, usage] = /^\s*([0-9a-f-]{36})\s+iscsi (.*\S)\s*$/.exec(line) ?? [];
      const ours = usage?.startsWith(`${name} `) && usage.endsWith(` ${this.#d.files.root}`);
      return uuid !== undefined && ours ? [uuid] : [];
    });
    if (uuids.length > 0) await this.#d.virsh.try(uuids.map((uuid) => ['secret-undefine', uuid]));
  }

  /** @throws InstanceNotFound */
  async #uuid(name: string): Promise<string> {
    const uuid = await this.#d.files.owner(name);
    if (uuid === undefined) throw new InstanceNotFound(`no guest ${name} on this host`);
    return uuid;
  }
}

/** Private: libvirtd gives its value to no client. Not ephemeral: a guest that libvirtd itself starts needs it. */
const secretXml = (uuid: string, usage: string): string =>
  `<secret ephemeral='no' private='yes'><uuid>${uuid}</uuid>` +
  `<usage type='iscsi'><target>${escapeXml(usage)}</target></usage></secret>\n`;

/** The words of QEMU or libvirt, without the command's. */
const reason = (text: string): string => text.split('error: ').at(-1)?.trim() ?? text;
