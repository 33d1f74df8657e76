import { spawn as startProcess } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { appendFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { execute } from '../../../common/execute.ts';
import {
  Aborted,
  BackendUnavailable,
  Conflict,
  errorText,
  InstanceNotFound,
  ProcessExecutionError,
} from '../../../common/errors.ts';
import { boolean, defineFlags, enumeration, integer, list, string, type FlagValues } from '../../../common/flags.ts';
import { Turns } from '../../../common/linux/host.ts';
import type { Log } from '../../../common/log.ts';
import type { FramePlan } from '../../logic/guest_frames.ts';
import type { GuestVolume } from '../../../common/volume_connection.ts';
import { PowerState } from '../../logic/power_state.ts';
import { userNetwork } from '../../logic/user_network.ts';
import { checkAborted } from '../aborted.ts';
import { boundConsole, makeConsole, readConsole } from '../console_log.ts';
import type { ComputeDriver, DriverDeps, FetchImage, GuestInfo, GuestSpec, HostResources } from '../driver.ts';
import { writeWhole } from '../files.ts';
import { freezeFile, FrozenGuests } from '../frozen.ts';
import { hostResources, versionNumber } from '../host_resources.ts';
import { InstanceFiles, type GuestFiles } from '../instance_files.ts';
import { softStop, softStopFlags } from '../soft_stop.ts';
import { volumeUnplugFlags } from '../volume_unplug.ts';
import { qemuCommandLine, QMP_SOCKET } from './command_line.ts';
import { freePorts } from './free_ports.ts';
import { QemuGuests, type Definition } from './guests.ts';
import type { MetadataAccess } from './metadata_connection.ts';
import { qmp } from './qmp.ts';
import { QemuVolumes } from './volumes.ts';

export const qemuFlags = defineFlags({
  qemu_binary: string('qemu-system-x86_64', 'The QEMU program'),
  qemu_accel: enumeration<'tcg' | 'kvm'>(
    'tcg',
    ['tcg', 'kvm'],
    'How QEMU runs guests: tcg anywhere, kvm with /dev/kvm',
  ),
  qemu_cpu: string(null, "Processor that guests see, a word of QEMU's -cpu"),
  qemu_forward_ports: list(
    ['22', '80', '2222'],
    'TCP ports of a guest that are reached at free ports of 127.0.0.1, which the console log tells',
  ),
  vnc_enabled: boolean(true, 'Give guests a screen, reached by VNC'),
  metadata_host: string('127.0.0.1', 'Host of the metadata service, as QEMU reaches it'),
  metadata_port: integer(8775, 'Port of the metadata service', { min: 0, max: 65535 }),
  metadata_proxy_shared_secret: string('', 'Secret with which a proxy signs for whom it asks the metadata service'),
});

const NETWORK_PROGRAM = join(import.meta.dirname, 'guest_net.js');
const METADATA_PROGRAM = join(import.meta.dirname, 'metadata_connection.js');

/** As long as `execute` gives QEMU to start. */
const START_LIMIT_MS = 60_000;

/**
 * Guests as QEMU processes of this user, with user-mode networking: no root, no libvirtd, no bridge. A guest has its
 * fixed ip, reaches the internet and the metadata service, and is reached at forwarded ports of 127.0.0.1; it does not
 * see other guests. QEMU is a daemon of its own, so that guests outlive nova-compute.
 *
 *   folder of the guest: what instance_files.ts keeps, and
 *   qemu.json      its definition; from when this is there, there is a guest, running or not
 *   metadata.json  what metadata_connection.ts needs to ask for this guest
 *   qemu.pid, qmp.sock, vnc.sock, net0.guest, net0.host     of a running QEMU
 */
export class QemuDriver implements ComputeDriver {
  readonly #log: Log;
  readonly #flags: FlagValues<typeof qemuFlags>;
  readonly #soft_reboot_timeout: number;
  readonly #files: InstanceFiles;
  readonly #guests: QemuGuests;
  readonly #volumes: QemuVolumes;
  readonly #frozen: FrozenGuests;
  /** The period and a reboot may cut a log at the same time. */
  readonly #consoles = new Turns();
  #version = 0;

  constructor(deps: DriverDeps) {
    this.#log = deps.log;
    this.#flags = deps.flags.read(qemuFlags);
    this.#soft_reboot_timeout = deps.flags.read(softStopFlags).soft_reboot_timeout;
    this.#files = new InstanceFiles(deps);
    this.#guests = new QemuGuests(this.#files.root, NETWORK_PROGRAM, deps.log);
    this.#volumes = new QemuVolumes(
      this.#guests,
      (name) => this.#frozen.isFrozen(name),
      deps.flags.read(volumeUnplugFlags).volume_detach_timeout,
    );
    this.#frozen = new FrozenGuests(
      {
        ...freezeFile((name, file) => this.#files.path(name, file)),
        state: async (name) => (await this.getInfo(name)).state,
        pause: async (name) => void (await qmp(this.#guests.dir(name), QMP_SOCKET, 'stop')), // QEMU flushes as it stops
        resume: (name) => this.#resume(name),
      },
      deps.log,
    );
  }

  async initHost(signal: AbortSignal): Promise<void> {
    await this.#files.initHost(signal);
    await this.#readVersion(signal);
    if (this.#flags.metadata_proxy_shared_secret === '')
      this.#log.warn('guests get no metadata: --metadata_proxy_shared_secret is not set');
    for (const { name, definition, state } of await this.#guests.list()) {
      if (definition === null) continue;
      // The secret, or the service's place, may be another now.
      await this.#orWarn(name, 'guest may get no metadata', () => this.#writeMetadataAccess(name, definition));
      if (state !== PowerState.SHUTOFF) await this.#rejoinNetwork(name, definition);
    }
  }

  async listInstances(): Promise<GuestInfo[]> {
    const defined = await this.#guests.list();
    for (const { name, definition, state } of defined) {
      if (definition === null) continue;
      await this.#boundConsole(name);
      if (state !== PowerState.SHUTOFF) await this.#rejoinNetwork(name, definition);
    }
    await this.#frozen.sweep(defined.flatMap(({ name, definition }) => (definition === null ? [] : [name])));
    const guests = defined.map(({ name, definition, state }) => ({ name, uuid: definition?.uuid ?? null, state }));
    return [...guests, ...(await this.#files.withoutGuest(guests))];
  }

  async getInfo(name: string): Promise<GuestInfo> {
    const guest = await this.#guests.find(name);
    if (guest === undefined) throw new InstanceNotFound(`no guest ${name} in ${this.#files.root}`);
    return { name, uuid: guest.definition.uuid, state: guest.state };
  }

  async spawn(spec: GuestSpec, fetch: FetchImage, signal: AbortSignal): Promise<void> {
    checkAborted(signal, `spawn of ${spec.name}`);
    await this.#own(spec);
    if (await this.#adopt(spec, signal)) return;
    const files = await this.#files.prepare(spec, fetch, signal);
    await this.#start(spec, files, signal);
  }

  async destroy(name: string, signal: AbortSignal, uuid?: string): Promise<void> {
    checkAborted(signal, `destroy of ${name}`);
    const owner = await this.#files.owner(name);
    if (uuid !== undefined && owner !== undefined && owner !== uuid) {
      this.#log.warn({ guest: name, uuid, there: owner }, 'a guest of this name is not ours and is left alone');
      return;
    }
    await this.#guests.stop(name);
    await this.#files.remove(name, uuid);
  }

  async reboot(spec: GuestSpec, how: 'SOFT' | 'HARD', signal: AbortSignal): Promise<void> {
    const { name } = spec;
    await this.#own(spec);
    const files = await this.#files.existing(spec);
    if (files === undefined) throw new InstanceNotFound(`no guest ${name} in ${this.#files.root}, and no disk of it`);
    if (how === 'SOFT') {
      await this.#frozen.release(name);
      if ((await this.#guests.find(name))?.state === PowerState.RUNNING) await this.#softStop(name, signal);
    }
    await this.#guests.stop(name);
    await this.#boundConsole(name);
    await this.#start(spec, files, signal);
  }

  attachVolume = (name: string, volume: GuestVolume, signal: AbortSignal): Promise<void> =>
    this.#volumes.attach(name, volume, signal);
  detachVolume = (name: string, serial: string, signal: AbortSignal): Promise<void> =>
    this.#volumes.detach(name, serial, signal);
  listVolumes = (): Promise<Map<string, string[]>> => this.#volumes.list();

  freeze = (name: string, key: string, seconds: number): Promise<void> => this.#frozen.freeze(name, key, seconds);
  thaw = (name: string, key: string): Promise<boolean> => this.#frozen.thaw(name, key);
  thawAll = (): Promise<void> => this.#frozen.thawAll();

  async #resume(name: string): Promise<void> {
    if (await this.#guests.isRunning(name)) await qmp(this.#guests.dir(name), QMP_SOCKET, 'cont');
  }

  async getConsoleOutput(name: string, limit_bytes: number): Promise<string> {
    if ((await this.#files.owner(name)) === undefined) throw new InstanceNotFound(`no guest ${name} on this host`);
    return readConsole(this.#files.path(name, 'console.log'), limit_bytes);
  }

  async hostResources(): Promise<HostResources> {
    if (this.#version === 0) await this.#readVersion(new AbortController().signal);
    return hostResources(this.#files.root, this.#version);
  }

  async #readVersion(signal: AbortSignal): Promise<void> {
    const { qemu_binary } = this.#flags;
    try {
      const { stdout } = await execute([qemu_binary, '--version'], { signal });
      this.#version = versionNumber(stdout);
    } catch (err) {
      if (err instanceof Aborted) throw err;
      throw new BackendUnavailable(
        `--qemu_binary=${qemu_binary}: ${errorText(err)}. Install qemu-system-x86, or name the program`,
        { cause: err },
      );
    }
    if (this.#version < 7_002_000)
      throw new BackendUnavailable(`${qemu_binary} is older than 7.2, which joins guests' networks by stream sockets`);
  }

  /** @throws Conflict when the name is another instance's */
  async #own(spec: GuestSpec): Promise<void> {
    const uuid = (await this.#guests.definition(spec.name))?.uuid;
    if (uuid === undefined || uuid === spec.uuid) return;
    throw new Conflict(
      `${this.#files.path(spec.name)} holds the guest of another instance, ${uuid}, not of ${spec.uuid}: ` +
        'was the database replaced? Destroy that guest first',
    );
  }

  /**
   * Whether the guest runs; then it gets what else belongs to a start, for a nova-compute that was killed meanwhile. A QEMU
   * that such a one left half-started, and that does not come up, is ended.
   */
  async #adopt({ name, volumes }: GuestSpec, signal: AbortSignal): Promise<boolean> {
    const definition = await this.#guests.definition(name);
    if (definition === undefined || !(await this.#guests.isRunning(name))) return false;
    if (!(await this.#guests.isUp(name, START_LIMIT_MS, signal))) {
      await this.#guests.stop(name);
      return false;
    }
    await this.#volumes.forget(name, volumes);
    await this.#joinNetwork(name, definition);
    return true;
  }

  /**
   * Starts QEMU, which takes a moment, or without end where a volume's target does not answer. One that was given up midway
   * is ended: the half that is to be the daemon starts on by itself, and would count as the guest.
   */
  async #start(spec: GuestSpec, files: GuestFiles, signal: AbortSignal): Promise<void> {
    const { name } = spec;
    let forwards = (await this.#guests.definition(name))?.forwards ?? (await this.#pickForwards());
    for (let attempt = 1; ; attempt++) {
      checkAborted(signal, `start of ${name}`);
      await this.#frozen.forget(name);
      const definition: Definition = { uuid: spec.uuid, forwards, ...networkOf(spec) };
      await this.#guests.define(name, definition);
      await this.#writeMetadataAccess(name, definition);
      await this.#tellForwards(name, forwards);
      try {
        await this.#run(spec, files, forwards, signal);
        await this.#joinNetwork(name, definition);
        return;
      } catch (err) {
        if (wasStopped(err)) {
          await this.#guests.stop(name);
          throw err;
        }
        if (await this.#adopt(spec, signal)) return; // somebody was faster
        const taken = err instanceof ProcessExecutionError && /host forwarding/.test(err.message);
        if (!taken || attempt === 5) throw err;
        forwards = await this.#pickForwards(); // another program has the port by now
      }
    }
  }

  async #run(spec: GuestSpec, files: GuestFiles, forwards: Record<string, number>, signal: AbortSignal): Promise<void> {
    const dir = this.#guests.dir(spec.name);
    const { qemu_binary, qemu_accel, qemu_cpu, vnc_enabled, metadata_proxy_shared_secret } = this.#flags;
    const argv = qemuCommandLine(spec, files, {
      binary: qemu_binary,
      accel: qemu_accel,
      cpu: qemu_cpu,
      screen: vnc_enabled,
      forwards,
      dir,
      metadata_command:
        metadata_proxy_shared_secret === ''
          ? null
          : [process.execPath, '--no-warnings', METADATA_PROGRAM, join(dir, 'metadata.json')],
    });
    try {
      await this.#volumes.prepare(spec.name, spec.volumes);
      await execute(argv, { cwd: dir, signal });
    } finally {
      await this.#volumes.forget(spec.name, spec.volumes);
    }
  }

  /** Starts guest_net.ts for a guest that has cards and none of it. */
  async #joinNetwork(name: string, { network }: Definition): Promise<void> {
    if (network === null || (await this.#guests.hasNetwork(name))) return;
    // Small spaces: a process per guest, through which only frames pass.
    const argv = [
      '--max-old-space-size=32',
      '--max-semi-space-size=1',
      NETWORK_PROGRAM,
      this.#guests.dir(name),
      network,
    ];
    const child = startProcess(process.execPath, argv, { detached: true, stdio: 'ignore', cwd: '/' });
    await once(child, 'spawn');
    child.unref();
  }

  #boundConsole = (name: string): Promise<void> =>
    this.#orWarn(name, 'console log cannot be cut', () =>
      boundConsole(this.#files.path(name, 'console.log'), this.#consoles),
    );
  #rejoinNetwork = (name: string, definition: Definition): Promise<void> =>
    this.#orWarn(name, 'guest may have no network', () => this.#joinNetwork(name, definition));

  /** Upkeep of one guest: that it fails, as on a full disk, must keep nobody from the others, nor from taking this one away. */
  async #orWarn(name: string, failure: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (err) {
      this.#log.warn({ guest: name, err }, failure);
    }
  }

  async #softStop(name: string, signal: AbortSignal): Promise<void> {
    const dir = this.#guests.dir(name);
    const stopped = await softStop(
      {
        press: async () => {
          await this.#frozen.release(name); // a snapshot may have begun meanwhile
          try {
            await qmp(dir, QMP_SOCKET, 'system_powerdown');
          } catch (err) {
            if (!(err instanceof BackendUnavailable)) throw err; // it is off by now, or hangs: time will tell
          }
        },
        isOff: async () => !(await this.#guests.isRunning(name)),
      },
      this.#soft_reboot_timeout,
      signal,
    );
    if (!stopped)
      this.#log.info({ guest: name, seconds: this.#soft_reboot_timeout }, 'guest did not shut down and is stopped');
  }

  async #pickForwards(): Promise<Record<string, number>> {
    const ports = this.#flags.qemu_forward_ports;
    const free = await freePorts(ports.length);
    return Object.fromEntries(ports.map((port, i) => [port, free[i] ?? 0]));
  }

  /** Into the console log, since that is what a user can read of a guest wherever they are. */
  async #tellForwards(name: string, forwards: Record<string, number>): Promise<void> {
    const log = this.#files.path(name, 'console.log');
    await makeConsole(log);
    const at = Object.entries(forwards).map(([port, here]) => `${port} at 127.0.0.1:${here}`);
    if (at.length === 0) return;
    const { size } = await stat(log);
    await appendFile(log, `${size > 0 ? '\n' : ''}nova: TCP ports of this guest: ${at.join(', ')}\n`);
    this.#log.info({ guest: name, forwards }, 'guest ports forwarded');
  }

  async #writeMetadataAccess(name: string, { address }: Definition): Promise<void> {
    const { metadata_proxy_shared_secret: secret, metadata_host: host, metadata_port: port } = this.#flags;
    if (secret === '' || address === null) return;
    const access: MetadataAccess = {
      host,
      port,
      headers: {
        'X-Instance-Address': address,
        'X-Instance-Signature': createHmac('sha256', secret).update(address).digest('hex'),
      },
    };
    await writeWhole(this.#files.path(name, 'metadata.json'), JSON.stringify(access), 0o600);
  }
}

/** Whether it was `execute` that ended the command, and not the command itself. */
const wasStopped = (err: unknown): boolean =>
  err instanceof Aborted || (err instanceof ProcessExecutionError && err.details['timeout_ms'] !== undefined);

function networkOf(spec: GuestSpec): Pick<Definition, 'address' | 'network'> {
  const plans: FramePlan[] = spec.nics.map((nic) => {
    const { gateway, metadata } = userNetwork(nic);
    return { gateway, metadata };
  });
  return { address: spec.nics[0]?.address ?? null, network: plans.length === 0 ? null : JSON.stringify(plans) };
}
