import { readFile, rm } from 'node:fs/promises';
import { clock } from '../../common/clock.ts';
import { BackendAway, Conflict } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import { PowerState } from '../logic/power_state.ts';
import { errorCode, writeWhole } from './files.ts';

/** Why a guest stands still. */
export interface Freeze {
  /** Key to when its time is over, UTC ISO text. */
  keys: Record<string, string>;
  /** It ran before, so it runs again when no key is left. */
  resume: boolean;
}

const STANDS_STILL = 'a guest stands still longer than asked; the next period tries again';

/** What a driver has to do with one guest. */
export interface Freezable {
  /** @throws InstanceNotFound */
  state(name: string): Promise<PowerState>;
  pause(name: string): Promise<void>;
  /** A guest that is gone or off needs no resume. */
  resume(name: string): Promise<void>;
  load(name: string): Promise<Freeze | undefined>;
  /** Undefined: forget it. */
  save(name: string, freeze: Freeze | undefined): Promise<void>;
}

/**
 * Guests that stand still while their volumes are copied. The reason is kept with the guest before it is paused and until
 * it runs again, so that a process that starts after this one was killed ends what it began (`sweep`).
 *
 *   freeze: save, pause, timer      thaw, time over, an orderly stop, or a soft reboot: resume, forget
 */
export class FrozenGuests {
  readonly #guest: Freezable;
  readonly #log: Log;
  readonly #timers = new Map<string, NodeJS.Timeout>();
  /** By guest: the end of what was begun on it. */
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(guest: Freezable, log: Log) {
    this.#guest = guest;
    this.#log = log;
  }

  freeze(name: string, key: string, seconds: number): Promise<void> {
    return this.#alone(name, async () => {
      const state = await this.#guest.state(name);
      const paused = state === PowerState.PAUSED;
      if (!paused && state !== PowerState.RUNNING && state !== PowerState.BLOCKED)
        throw new Conflict(`guest ${name} is off, so nothing of it has to stand still`);
      const before = await this.#guest.load(name);
      const until = new Date(clock.now().getTime() + seconds * 1000).toISOString();
      await this.#guest.save(name, { keys: { ...before?.keys, [key]: until }, resume: before?.resume ?? !paused });
      try {
        if (!paused) await this.#guest.pause(name);
      } finally {
        await this.#look(name); // also where nobody knows whether it stands still by now
      }
    });
  }

  /** Whether something holds it now. */
  async isFrozen(name: string): Promise<boolean> {
    return (await this.#guest.load(name)) !== undefined;
  }

  thaw(name: string, key: string): Promise<boolean> {
    return this.#alone(name, async () => {
      await this.#look(name);
      const freeze = await this.#guest.load(name);
      if (freeze?.keys[key] === undefined) return false;
      const still = (await this.#guest.state(name)) === PowerState.PAUSED;
      const { [key]: _, ...keys } = freeze.keys;
      await this.#keep(name, { ...freeze, keys });
      return still;
    });
  }

  async thawAll(): Promise<void> {
    for (const name of this.#timers.keys()) await this.release(name);
  }

  /**
   * The guest goes on, whatever holds it, as before it is asked to shut down; a `thaw` that is late hears so. One that
   * cannot is no reason not to reboot it, nor to leave the others as they are.
   */
  async release(name: string): Promise<void> {
    try {
      await this.#end(name);
    } catch (err) {
      this.#log.warn({ err, guest: name }, 'a guest that stands still cannot go on');
    }
  }

  #end(name: string): Promise<void> {
    return this.#alone(name, async () => {
      const freeze = await this.#guest.load(name);
      if (freeze !== undefined) await this.#keep(name, { ...freeze, keys: {} });
    });
  }

  /** The guest starts anew: what it was frozen for is void. */
  async forget(name: string): Promise<void> {
    await this.#alone(name, () => this.#guest.save(name, undefined));
  }

  /** Has guests whose time is over run again; one that does not is told of, and holds nobody else up. @throws BackendAway */
  async sweep(names: readonly string[]): Promise<void> {
    for (const name of names)
      try {
        await this.#alone(name, () => this.#look(name));
      } catch (err) {
        if (err instanceof BackendAway) throw err;
        this.#log.warn({ err, guest: name }, STANDS_STILL);
      }
  }

  async #look(name: string): Promise<void> {
    const freeze = await this.#guest.load(name);
    if (freeze === undefined) return;
    const now = clock.now().toISOString();
    await this.#keep(name, {
      ...freeze,
      keys: Object.fromEntries(Object.entries(freeze.keys).filter(([, until]) => until > now)),
    });
  }

  async #keep(name: string, freeze: Freeze): Promise<void> {
    const ends = Object.values(freeze.keys).sort();
    if (ends[0] === undefined) {
      if (freeze.resume) await this.#guest.resume(name);
      clearTimeout(this.#timers.get(name));
      this.#timers.delete(name);
      return this.#guest.save(name, undefined);
    }
    clearTimeout(this.#timers.get(name));
    await this.#guest.save(name, freeze);
    const wait_ms = Math.max(0, Date.parse(ends[0]) - clock.now().getTime()) + 1;
    const timer = setTimeout(() => {
      this.sweep([name]).catch((err: unknown) => this.#log.warn({ err, guest: name }, STANDS_STILL));
    }, wait_ms);
    this.#timers.set(name, timer.unref());
  }

  /** What is done to one guest is done one after the other. */
  async #alone<T>(name: string, work: () => Promise<T>): Promise<T> {
    const turn = (this.#turns.get(name) ?? Promise.resolve()).catch(() => undefined).then(work);
    this.#turns.set(name, turn);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(name) === turn) this.#turns.delete(name);
    }
  }
}

/** Where a guest's folder keeps it. */
export const freezeFile = (path: (name: string, file: string) => string): Pick<Freezable, 'load' | 'save'> => ({
  load: async (name) => {
    try {
      return JSON.parse(await readFile(path(name, 'frozen.json'), 'utf8')) as Freeze;
    } catch (err) {
      if (errorCode(err) === 'ENOENT') return undefined;
      throw err;
    }
  },
  save: (name, freeze) =>
    freeze === undefined
      ? rm(path(name, 'frozen.json'), { force: true })
      : writeWhole(path(name, 'frozen.json'), JSON.stringify(freeze)),
});
