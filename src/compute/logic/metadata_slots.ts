/** How many connections one guest has to the metadata service at once, each of which is a process of the host. */
export const METADATA_CONNECTIONS = 16;
/** Longer than a silent connection's process lives, its start on a busy host with it (metadata_connection.ts). */
const SILENT_MS = 60_000;

/**
 * The connections of one card to the metadata service, each known by the guest's address and port. Believed is only what
 * comes from the service's side: its FIN, which says that the process is gone, or a long silence. What the guest sends,
 * or makes the other side send (RST), may be meant to be counted wrong. So a port has to be free to begin anew, too.
 */
export class MetadataSlots {
  readonly #now_ms: () => number;
  /** By port: when it was heard last. */
  readonly #taken = new Map<number, number>();

  constructor(now_ms: () => number) {
    this.#now_ms = now_ms;
  }

  /** The guest begins a connection. @returns whether it may */
  take(port: number): boolean {
    const now = this.#now_ms();
    for (const [each, heard] of this.#taken) if (now - heard >= SILENT_MS) this.#taken.delete(each);
    if (this.#taken.has(port) || this.#taken.size >= METADATA_CONNECTIONS) return false;
    this.#taken.set(port, now);
    return true;
  }

  /** The service's side sent the guest something. */
  heard(port: number, is_last: boolean): void {
    if (!this.#taken.has(port)) return;
    if (is_last) this.#taken.delete(port);
    else this.#taken.set(port, this.#now_ms());
  }
}
