import type { NovaDb } from '../common/db/connect.ts';
import { contentVersion } from '../common/db/content_version.ts';

/** Short texts leave in one write with their headers when they are strings; long ones are not encoded again and again. */
const LONG = 32 * 1024;
const sendable = (text: string): string | Buffer => (text.length < LONG ? text : Buffer.from(text));

/** Of one API's answers. */
export const CACHE_BYTES = 32 * 1024 * 1024;

interface Entry {
  /** Of the database, read before the answer was made: it may be newer than this, never older. */
  version: string;
  text: Promise<string | Buffer>;
  /** 0 while it is being made. */
  size: number;
}

/**
 * Answers that depend on nothing but the database and their key. One is given again only while nobody has written
 * anything anywhere in the database, so it is never out of date; what many ask at once is made once.
 */
export class AnswerCache {
  readonly #version: () => Promise<string>;
  readonly #limit_bytes: number;
  /** The longest unused first. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  constructor(db: NovaDb, limit_bytes: number) {
    this.#version = contentVersion(db);
    this.#limit_bytes = limit_bytes;
  }

  async get(key: string, make: () => Promise<string>): Promise<string | Buffer> {
    const version = await this.#version();
    const known = this.#entries.get(key);
    if (known !== undefined) this.#forget(key, known);
    const entry = known?.version === version ? known : this.#make(key, version, make);
    this.#entries.set(key, entry);
    this.#bytes += entry.size;
    return entry.text;
  }

  #make(key: string, version: string, make: () => Promise<string>): Entry {
    const entry: Entry = { version, text: make().then(sendable), size: 0 };
    entry.text.then(
      (text) => {
        if (this.#entries.get(key) !== entry) return;
        entry.size = text.length + key.length;
        this.#bytes += entry.size;
        for (const [oldest, { size }] of this.#entries) {
          if (this.#bytes <= this.#limit_bytes) break;
          if (size > 0) this.#forget(oldest, { size });
        }
      },
      () => {
        if (this.#entries.get(key) === entry) this.#entries.delete(key); // whoever asks next tries again
      },
    );
    return entry;
  }

  #forget(key: string, { size }: Pick<Entry, 'size'>): void {
    this.#entries.delete(key);
    this.#bytes -= size;
  }
}
