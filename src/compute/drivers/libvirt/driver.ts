import { constants } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  BackendUnavailable,
  Conflict,
  InstanceNotFound,
  InvalidInput,
  ProcessExecutionError,
} from '../../../common/errors.ts';
import { boolean, defineFlags, enumeration, string, type FlagValues } from '../../../common/flags.ts';
import { Turns } from '../../../common/linux/host.ts';
import type { Log } from '../../../common/log.ts';
import type { GuestVolume } from '../../../common/volume_connection.ts';
import { PowerState } from '../../logic/power_state.ts';
import { checkAborted, pause } from '../aborted.ts';
import { boundConsole, makeConsole, readConsole } from '../console_log.ts';
import type { ComputeDriver, DriverDeps, FetchImage, GuestInfo, GuestSpec, HostResources } from '../driver.ts';
import { errorCode, writeWhole } from '../files.ts';
import { freezeFile, FrozenGuests } from '../frozen.ts';
import { hostResources, versionNumber } from '../host_resources.ts';
import { InstanceFiles, type GuestFiles } from '../instance_files.ts';
import { softStop, softStopFlags } from '../soft_stop.ts';
import { volumeUnplugFlags } from '../volume_unplug.ts';
import { domainXml } from './domain_xml.ts';
import { Domains, isActive, type Domain } from './domains.ts';
import { Virsh } from './virsh.ts';
import { LibvirtVolumes } from './volumes.ts';

export const libvirtFlags = defineFlags({
  libvirt_type: enumeration<'kvm' | 'qemu'>(
    'kvm',
    ['kvm', 'qemu'],
    'How guests run: kvm, or qemu where the processor cannot help',
  ),
  libvirt_uri: string('', 'Where libvirtd listens; empty: qemu:///system'),
  libvirt_cpu_mode: enumeration(
    'default',
    ['default', 'host-model', 'host-passthrough', 'custom', 'none'],
    'Processor that guests see; default: host-model with kvm, none with qemu, which is what QEMU takes by itself',
  ),
  libvirt_cpu_model: string(null, 'Name of the processor, with --libvirt_cpu_mode=custom'),
  vnc_enabled: boolean(true, 'Give guests a screen, reached by VNC'),
  // Nova's 0.0.0.0 showed every guest's screen, without a password, to whoever could reach the host.
  vncserver_host: string('127.0.0.1', "Address that the guests' VNC servers listen on"),
  start_guests_on_host_boot: boolean(false, 'libvirtd starts guests by itself when the host comes up'),
});

/**
 * Guests as libvirt domains. They outlive nova-compute and libvirtd; what there is of a guest is its domain, marked as
 * ours (domains.ts), and its folder (instance_files.ts). A domain of the same name that somebody else made is never
 * touched. Source: Nova 2011.2 nova/virt/libvirt_conn.py.
 */
export class LibvirtDriver implements ComputeDriver {
  readonly #log: Log;
  readonly #flags: FlagValues<typeof libvirtFlags>;
  readonly #soft_reboot_timeout: number;
  readonly #files: InstanceFiles;
  readonly #virsh: Virsh;
  readonly #domains: Domains;
  readonly #volumes: LibvirtVolumes;
  readonly #frozen: FrozenGuests;
  /** The period and a reboot may cut a log at the same time. */
  readonly #consoles = new Turns();
  #version = 0;
  #disk_cache: string | undefined;

  constructor(deps: DriverDeps) {
    this.#log = deps.log;
    this.#flags = deps.flags.read(libvirtFlags);
    this.#soft_reboot_timeout = deps.flags.read(softStopFlags).soft_reboot_timeout;
    this.#files = new InstanceFiles(deps);
    this.#virsh = new Virsh(this.#flags.libvirt_uri || 'qemu:///system');
    this.#domains = new Domains(this.#virsh, this.#files.root);
    this.#volumes = new LibvirtVolumes({
      virsh: this.#virsh,
      domains: this.#domains,
      files: this.#files,
      isFrozen: (name) => this.#frozen.isFrozen(name),
      detach_timeout_s: deps.flags.read(volumeUnplugFlags).volume_detach_timeout,
    });
    this.#frozen = new FrozenGuests(
      {
        ...freezeFile((name, file) => this.#files.path(name, file)),
        state: async (name) => (await this.getInfo(name)).state,
        pause: async (name) => void (await this.#virsh.run(['suspend', name])), // QEMU flushes as it stops the guest
        resume: (name) => this.#resume(name),
      },
      deps.log,
    );
  }

  async initHost(signal: AbortSignal): Promise<void> {
    const { libvirt_type, libvirt_cpu_mode, libvirt_cpu_model } = this.#flags;
    if (libvirt_cpu_mode === 'custom' && libvirt_cpu_model === null)
      throw new InvalidInput(
        '--libvirt_cpu_mode=custom needs --libvirt_cpu_model=NAME; `virsh cpu-models x86_64` lists',
      );
    await this.#files.initHost(signal);
    const capabilities = await this.#virsh.run(['capabilities'], signal);
    if (!capabilities.includes(`<domain type='${libvirt_type}'`))
      throw new BackendUnavailable(
        libvirt_type === 'kvm'
          ? `libvirtd at ${this.#virsh.uri} cannot run kvm guests: load the kvm module, or use --libvirt_type=qemu, which is slow`
          : `libvirtd at ${this.#virsh.uri} cannot run qemu guests: install qemu-system-x86`,
      );
    await this.#readVersion();
  }

  async listInstances(): Promise<GuestInfo[]> {
    const domains = await this.#domains.list();
    // The periodic question is also the moment to bound the consoles of guests that nobody reads.
    for (const { name } of domains) await this.#boundConsole(name);
    await this.#frozen.sweep(domains.map(({ name }) => name));
    const guests = domains.map(({ name, uuid, state }) => ({ name, uuid, state }));
    return [...guests, ...(await this.#files.withoutGuest(guests))];
  }

  async getInfo(name: string): Promise<GuestInfo> {
    const domain = await this.#domains.find(name);
    if (domain === undefined || !domain.ours) throw new InstanceNotFound(`no guest ${name} at ${this.#virsh.uri}`);
    return { name, uuid: domain.uuid, state: domain.state };
  }

  async spawn(spec: GuestSpec, fetch: FetchImage, signal: AbortSignal): Promise<void> {
    checkAborted(signal, `spawn of ${spec.name}`);
    const domain = await this.#settled(spec, signal);
    if (domain !== undefined && isActive(domain)) return;
    const files = await this.#files.prepare(spec, fetch, signal);
    // From here on the signal waits: a virsh that is killed leaves its order with libvirtd, which would carry it out
    // after the destroy that comes next.
    await this.#define(spec, files);
    await this.#start(spec, false);
  }

  async destroy(name: string, signal: AbortSignal, uuid?: string): Promise<void> {
    for (;;) {
      checkAborted(signal, `destroy of ${name}`);
      const domain = await this.#domains.find(name);
      if (domain === undefined) break;
      if (!domain.ours || (uuid !== undefined && domain.uuid !== uuid)) {
        this.#log.warn(
          { guest: name, uuid, there: domain.uuid },
          'a domain of this name is not ours and is left alone',
        );
        break;
      }
      if (isActive(domain)) await this.#unlessGone(name, domain, ['destroy', domain.uuid]);
      else await this.#unlessGone(name, domain, [...UNDEFINE, domain.uuid]);
    }
    const owner = await this.#files.owner(name);
    if (owner !== undefined && (uuid === undefined || uuid === owner)) await this.#volumes.forgetSecrets(name);
    await this.#files.remove(name, uuid);
  }

  async reboot(spec: GuestSpec, how: 'SOFT' | 'HARD', signal: AbortSignal): Promise<void> {
    const { name } = spec;
    await this.#own(spec);
    const files = await this.#files.existing(spec);
    if (files === undefined)
      throw new InstanceNotFound(`the files of guest ${name} at ${this.#virsh.uri} are not all there`);
    if (how === 'SOFT') {
      await this.#frozen.release(name);
      const domain = await this.#own(spec);
      if (domain?.state === PowerState.RUNNING) await this.#softStop(name, domain, signal);
    }
    for (;;) {
      checkAborted(signal, `reboot of ${name}`);
      const domain = await this.#own(spec);
      if (domain === undefined || !isActive(domain)) break;
      await this.#unlessGone(name, domain, ['destroy', domain.uuid]);
    }
    await this.#boundConsole(name);
    await this.#define(spec, files); // with the volumes that are attached now
    await this.#start(spec, true);
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
    const domain = await this.#domains.find(name);
    if (domain?.state === PowerState.PAUSED) await this.#unlessGone(name, domain, ['resume', domain.uuid]);
  }

  async getConsoleOutput(name: string, limit_bytes: number): Promise<string> {
    if ((await this.#files.owner(name)) === undefined) throw new InstanceNotFound(`no guest ${name} on this host`);
    return readConsole(this.#files.path(name, 'console.log'), limit_bytes);
  }

  async hostResources(): Promise<HostResources> {
    if (this.#version === 0) await this.#readVersion();
    return hostResources(this.#files.root, this.#version);
  }

  async #readVersion(): Promise<void> {
    const text = await this.#virsh.run(['version']);
    this.#version = versionNumber(/Running hypervisor: (.*)/.exec(text)?.[1] ?? '');
  }

  /** This instance's domain. @throws Conflict when the name is taken by another */
  async #own(spec: GuestSpec): Promise<Domain | undefined> {
    const domain = await this.#domains.find(spec.name);
    if (domain === undefined || (domain.ours && domain.uuid === spec.uuid)) return domain;
    throw new Conflict(
      `a domain ${spec.name}, ${domain.uuid}, is at ${this.#virsh.uri} and is not instance ${spec.uuid}: ` +
        'was the database replaced, or does another cloud use this libvirtd? Rename or undefine it',
    );
  }

  /** The same, when it is not just being started, for a nova-compute that was killed meanwhile. */
  async #settled(spec: GuestSpec, signal: AbortSignal): Promise<Domain | undefined> {
    for (let waited_ms = 0; ; waited_ms += START_POLL_MS) {
      const domain = await this.#own(spec);
      if (domain?.state !== PowerState.NOSTATE) return domain;
      if (waited_ms >= START_LIMIT_MS)
        throw new BackendUnavailable(`libvirt has been starting ${spec.name} for ${START_LIMIT_MS / 1000} s`);
      await pause(START_POLL_MS, signal, `spawn of ${spec.name}`);
    }
  }

  async #define(spec: GuestSpec, files: GuestFiles): Promise<void> {
    await this.#volumes.defineSecrets(spec.name, spec.volumes);
    const path = this.#files.path(spec.name, 'libvirt.xml');
    const { vnc_enabled, vncserver_host, libvirt_type } = this.#flags;
    await writeWhole(
      path,
      domainXml(spec, files, {
        libvirt_type,
        cpu: this.#cpu(),
        disk_cache: (this.#disk_cache ??= await this.#probeDiskCache()),
        vnc_listen: vnc_enabled ? vncserver_host : null,
        instances_path: this.#files.root,
        console_log: this.#files.path(spec.name, 'console.log'),
        secret_uuid: (serial) => this.#volumes.secretUuid(spec.name, serial),
      }),
    );
    await this.#virsh.run(['define', path]);
    if (this.#flags.start_guests_on_host_boot) await this.#virsh.run(['autostart', spec.uuid]);
  }

  /** `fresh`: forget a saved memory and boot. */
  async #start(spec: GuestSpec, fresh: boolean): Promise<void> {
    await this.#frozen.forget(spec.name);
    await makeConsole(this.#files.path(spec.name, 'console.log'));
    try {
      await this.#virsh.run(['start', spec.uuid, ...(fresh ? ['--force-boot'] : [])]);
    } catch (err) {
      const domain = err instanceof ProcessExecutionError ? await this.#own(spec) : undefined;
      if (domain?.state !== PowerState.RUNNING) throw err; // else somebody, such as libvirtd itself, was faster
    }
    const domain = await this.#own(spec);
    if (domain === undefined || !isActive(domain))
      throw new BackendUnavailable(`guest ${spec.name} ended at once after its start; its console log may say why`);
  }

  async #softStop(name: string, domain: Domain, signal: AbortSignal): Promise<void> {
    const stopped = await softStop(
      {
        press: async () => {
          await this.#frozen.release(name); // a snapshot may have begun meanwhile
          try {
            await this.#virsh.run(['shutdown', domain.uuid, '--mode', 'acpi']);
          } catch (err) {
            if (!(err instanceof ProcessExecutionError)) throw err; // it is off by now, or busy: time will tell
          }
        },
        isOff: async () => {
          const now = await this.#domains.find(name);
          return now === undefined || !isActive(now);
        },
      },
      this.#soft_reboot_timeout,
      signal,
    );
    if (!stopped)
      this.#log.info({ guest: name, seconds: this.#soft_reboot_timeout }, 'guest did not shut down and is stopped');
  }

  /** Runs a command on a domain; that it failed is no matter if the domain moved on by itself. */
  async #unlessGone(name: string, before: Domain, args: string[]): Promise<void> {
    try {
      await this.#virsh.run(args);
    } catch (err) {
      if (!(err instanceof ProcessExecutionError)) throw err;
      const now = await this.#domains.find(name);
      if (now !== undefined && now.uuid === before.uuid && now.state === before.state) throw err;
    }
  }

  #cpu() {
    const { libvirt_type, libvirt_cpu_mode: mode, libvirt_cpu_model } = this.#flags;
    if (mode === 'none' || (mode === 'default' && libvirt_type === 'qemu')) return null;
    if (mode === 'custom') return { mode, model: libvirt_cpu_model };
    return { mode: mode === 'default' ? 'host-model' : mode, model: null };
  }

  /** 'none' keeps guests' writes out of the host's memory; a file system that has no direct access, such as tmpfs, refuses it. */
  async #probeDiskCache(): Promise<string> {
    const path = join(this.#files.root, `.direct-${process.pid}`);
    try {
      await (await open(path, constants.O_CREAT | constants.O_WRONLY | constants.O_DIRECT, 0o600)).close();
      return 'none';
    } catch (err) {
      if (errorCode(err) !== 'EINVAL') throw err;
      return 'writethrough';
    } finally {
      await rm(path, { force: true });
    }
  }

  async #boundConsole(name: string): Promise<void> {
    try {
      await boundConsole(this.#files.path(name, 'console.log'), this.#consoles);
    } catch (err) {
      this.#log.warn({ guest: name, err }, 'console log cannot be cut'); // QEMU's user may own it
    }
  }
}

const START_POLL_MS = 100;
const START_LIMIT_MS = 60_000;
const UNDEFINE = ['undefine', '--managed-save', '--snapshots-metadata', '--nvram'];
