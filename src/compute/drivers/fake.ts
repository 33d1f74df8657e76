import { BackendUnavailable, Conflict, errorText, InstanceNotFound } from '../../common/errors.ts';
import { defineFlags, float, integer, list, string, type FlagValues } from '../../common/flags.ts';
import type { GuestVolume } from '../../common/volume_connection.ts';
import { PowerState } from '../logic/power_state.ts';
import { checkAborted, pause } from './aborted.ts';
import type { ComputeDriver, DriverDeps, FetchImage, GuestInfo, GuestSpec, HostResources } from './driver.ts';
import { FrozenGuests, type Freeze } from './frozen.ts';
import { StateFile } from '../../common/state_file.ts';

export const fakeDriverFlags = defineFlags({
  fake_driver_state: string(null, 'Fake driver: JSON file that keeps the guests when nova-compute ends; unset: memory'),
  fake_driver_spawn_delay_ms: integer(0, 'Fake driver: milliseconds a guest takes to start', { min: 0 }),
  fake_driver_destroy_delay_ms: integer(0, 'Fake driver: milliseconds a guest takes to go away', { min: 0 }),
  fake_driver_failure_rate: float(0, 'Fake driver: share of operations that fail, 0 to 1', { min: 0, max: 1 }),
  fake_driver_attach_delay_ms: integer(0, 'Fake driver: milliseconds a volume takes to come or go', { min: 0 }),
  fake_driver_failing: list(
    ['spawn'],
    'Fake driver: which operations that share is of: spawn, reboot, destroy, attach, detach',
  ),
  fake_driver_vcpus: integer(100_000, 'Fake driver: processors of this host', { min: 1 }),
  fake_driver_memory_mb: integer(1024 * 1024, 'Fake driver: memory of this host in MiB', { min: 1 }),
  fake_driver_local_gb: integer(1024 * 1024, 'Fake driver: disk space of this host in GiB', { min: 1 }),
});

export interface FakeGuest {
  uuid: string;
  state: PowerState;
  boots: number;
  /** Serials of the volumes it has. */
  volumes?: string[];
  frozen?: Freeze | undefined;
}

const CONSOLE_LINE = 'FAKE CONSOLE OUTPUT\n';

/**
 * A whole driver over memory, for tests, load and simulation: guests that cost nothing, with delays and failures on
 * demand, which outlive nova-compute when they have a file to live in. Images are not fetched.
 * Source: Nova 2011.2 nova/virt/fake.py, which also had the words of the console.
 */
export class FakeDriver implements ComputeDriver {
  /** By name; a simulation may change what it finds here, as a guest or an operator would. */
  readonly guests = new Map<string, FakeGuest>();
  readonly #flags: FlagValues<typeof fakeDriverFlags>;
  readonly #file: StateFile<Record<string, FakeGuest>> | undefined;

  readonly #frozen: FrozenGuests;

  constructor({ flags, log }: DriverDeps) {
    this.#flags = flags.read(fakeDriverFlags);
    this.#frozen = new FrozenGuests(
      {
        state: async (name) => this.#guest(name).state,
        pause: async (name) => this.#change(name, (guest) => (guest.state = PowerState.PAUSED)),
        resume: async (name) => this.#change(name, (guest) => (guest.state = PowerState.RUNNING)),
        load: async (name) => this.guests.get(name)?.frozen,
        save: async (name, frozen) => this.#change(name, (guest) => (guest.frozen = frozen)),
      },
      log,
    );
    const path = this.#flags.fake_driver_state;
    if (path !== null) this.#file = new StateFile(path, () => Object.fromEntries(this.guests));
  }

  async initHost(): Promise<void> {
    if (this.#file === undefined) return;
    try {
      const kept = await this.#file.load();
      for (const [name, guest] of Object.entries(kept ?? {})) this.guests.set(name, guest);
      await this.#file.save(); // so that a path which cannot be written ends the start, not the first guest
    } catch (err) {
      throw new BackendUnavailable(
        `--fake_driver_state=${this.#flags.fake_driver_state}: ${errorText(err)}. Give a file that can be written`,
        { cause: err },
      );
    }
  }

  async listInstances(): Promise<GuestInfo[]> {
    await this.#frozen.sweep([...this.guests.keys()]);
    return Array.from(this.guests, ([name, { uuid, state }]) => ({ name, uuid, state }));
  }

  async getInfo(name: string): Promise<GuestInfo> {
    const { uuid, state } = this.#guest(name);
    return { name, uuid, state };
  }

  async spawn(spec: GuestSpec, _fetch: FetchImage, signal: AbortSignal): Promise<void> {
    checkAborted(signal, `spawn of ${spec.name}`);
    const there = this.guests.get(spec.name);
    if (there !== undefined && there.uuid !== spec.uuid)
      throw new Conflict(`a guest ${spec.name} of another instance, ${there.uuid}, is there: destroy it first`);
    if (there?.state === PowerState.RUNNING) return;
    const delay_ms = this.#flags.fake_driver_spawn_delay_ms;
    if (delay_ms > 0) await pause(delay_ms, signal, `spawn of ${spec.name}`);
    this.#maybeFail('spawn', spec.name);
    await this.#boot(spec);
  }

  async destroy(name: string, signal: AbortSignal, uuid?: string): Promise<void> {
    checkAborted(signal, `destroy of ${name}`);
    const delay_ms = this.#flags.fake_driver_destroy_delay_ms;
    if (delay_ms > 0) await pause(delay_ms, signal, `destroy of ${name}`);
    this.#maybeFail('destroy', name);
    if (uuid !== undefined && this.guests.get(name)?.uuid !== uuid) return;
    if (this.guests.delete(name)) await this.#file?.save();
  }

  async reboot(spec: GuestSpec, _how: 'SOFT' | 'HARD', signal: AbortSignal): Promise<void> {
    checkAborted(signal, `reboot of ${spec.name}`);
    this.#maybeFail('reboot', spec.name);
    await this.#boot(spec);
  }

  async attachVolume(name: string, { serial }: GuestVolume, signal: AbortSignal): Promise<void> {
    await this.#plug('attach', name, serial, signal);
    if (this.#guest(name).state === PowerState.SHUTOFF) throw new Conflict(`guest ${name} is off`);
    await this.#change(name, (guest) => (guest.volumes = [...new Set([...(guest.volumes ?? []), serial])]));
  }

  async detachVolume(name: string, serial: string, signal: AbortSignal): Promise<void> {
    await this.#plug('detach', name, serial, signal);
    await this.#change(name, (guest) => (guest.volumes = (guest.volumes ?? []).filter((other) => other !== serial)));
  }

  async #plug(operation: 'attach' | 'detach', name: string, serial: string, signal: AbortSignal): Promise<void> {
    const what = `${operation} of ${serial} at ${name}`;
    checkAborted(signal, what);
    const delay_ms = this.#flags.fake_driver_attach_delay_ms;
    if (delay_ms > 0) await pause(delay_ms, signal, what);
    this.#maybeFail(operation, what);
  }

  async listVolumes(): Promise<Map<string, string[]>> {
    const on = [...this.guests].filter(([, guest]) => guest.state !== PowerState.SHUTOFF);
    return new Map(on.map(([name, guest]) => [name, guest.volumes ?? []]));
  }

  freeze = (name: string, key: string, seconds: number): Promise<void> => this.#frozen.freeze(name, key, seconds);
  thaw = (name: string, key: string): Promise<boolean> => this.#frozen.thaw(name, key);
  thawAll = (): Promise<void> => this.#frozen.thawAll();

  async getConsoleOutput(name: string, limit_bytes: number): Promise<string> {
    const lines = Math.min(this.#guest(name).boots, Math.ceil(limit_bytes / CONSOLE_LINE.length));
    return limit_bytes <= 0 ? '' : CONSOLE_LINE.repeat(lines).slice(-limit_bytes);
  }

  async hostResources(): Promise<HostResources> {
    return {
      vcpus: this.#flags.fake_driver_vcpus,
      memory_mb: this.#flags.fake_driver_memory_mb,
      local_gb: this.#flags.fake_driver_local_gb,
      hypervisor_type: 'fake',
      hypervisor_version: 1,
      cpu_info: JSON.stringify({
        arch: 'x86_64',
        model: 'fake',
        vendor: 'fake',
        topology: { cores: 1, sockets: 1, threads: 1 },
        features: [],
      }),
    };
  }

  /** @throws InstanceNotFound */
  #guest(name: string): FakeGuest {
    const guest = this.guests.get(name);
    if (guest === undefined) throw new InstanceNotFound(`no guest ${name} on this host`);
    return guest;
  }

  /** One that is gone has nothing to change. */
  async #change(name: string, change: (guest: FakeGuest) => unknown): Promise<void> {
    const guest = this.guests.get(name);
    if (guest === undefined) return;
    change(guest);
    await this.#file?.save();
  }

  async #boot(spec: GuestSpec): Promise<void> {
    const boots = (this.guests.get(spec.name)?.boots ?? 0) + 1;
    const volumes = spec.volumes.map(({ serial }) => serial);
    this.guests.set(spec.name, { uuid: spec.uuid, state: PowerState.RUNNING, boots, volumes });
    await this.#file?.save();
  }

  #maybeFail(operation: string, name: string): void {
    const { fake_driver_failing, fake_driver_failure_rate } = this.#flags;
    if (fake_driver_failure_rate === 0 || !fake_driver_failing.includes(operation)) return;
    if (Math.random() >= fake_driver_failure_rate) return;
    throw new BackendUnavailable(
      `${operation} of ${name} failed, as --fake_driver_failure_rate=${fake_driver_failure_rate} asks`,
    );
  }
}
