import { readFile, rename, writeFile } from 'node:fs/promises';

/**
 * A JSON file that always holds one whole state, even if the process is killed while it writes. Writers that come
 * together share one write: two hundred changes at once cost two or three writes, not two hundred. It is not flushed to
 * the disk: it is to outlive a process, not a power cut.
 */
export class StateFile<T> {
  readonly #path: string;
  readonly #state: () => T;
  #running: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  /** `state` is asked for the value when a write begins. */
  constructor(path: string, state: () => T) {
    this.#path = path;
    this.#state = state;
  }

  /** The state as last written, or undefined when there is none yet. */
  async load(): Promise<T | undefined> {
    let text: string;
    try {
      text = await readFile(this.#path, 'utf8');
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw err;
    }
    return JSON.parse(text) as T;
  }

  /** Resolves when every change made before this call is in the file. */
  save(): Promise<void> {
    this.#next ??= this.#running
      .catch(() => undefined) // that failure was told to those who waited for it
      .then(() => {
        this.#next = undefined;
        return (this.#running = this.#write());
      });
    return this.#next;
  }

  async #write(): Promise<void> {
    const aside = `${this.#path}.${process.pid}.tmp`;
    await writeFile(aside, JSON.stringify(this.#state()));
    await rename(aside, this.#path);
  }
}
