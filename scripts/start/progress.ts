import type { WriteStream } from 'node:tty';

const FRAMES = ['-', '\\', '|', '/'];
const LABEL_WIDTH = 12;

/**
 * What happens, step by step. On a terminal the step under way is one line that is written again in place, with its
 * seconds; elsewhere each step is a plain line when it is over. Everything else must be said through here, or it would be
 * written into that line.
 *
 *     ok  scheduled      0.1 s  to localhost
 *     |   booting        2.3 s
 */
export class Progress {
  readonly #out: NodeJS.WriteStream | WriteStream;
  #step: { label: string; began: number; note: string } | undefined;
  #timer: NodeJS.Timeout | undefined;
  #frame = 0;

  constructor(out: NodeJS.WriteStream | WriteStream = process.stdout) {
    this.#out = out;
  }

  say(text: string): void {
    this.#clear();
    this.#out.write(`${text}\n`);
    this.#draw();
  }

  /** Begins a step; the one before, if it still ran, was done. */
  begin(label: string): void {
    this.done();
    this.#step = { label, began: performance.now(), note: '' };
    if (!this.#out.isTTY) return;
    this.#timer = setInterval(() => this.#draw(), 120);
    this.#draw();
  }

  /** A few words beside the step under way: the first line of the text. */
  note(text: string): void {
    if (this.#step) this.#step.note = text.split('\n')[0] ?? '';
  }

  /** @param note beside it, in place of what was noted while it ran */
  done(note?: string): void {
    this.#end('ok', note);
  }

  failed(): void {
    this.#end('--', '');
  }

  async run<T>(label: string, work: () => Promise<T>, note?: (result: T) => string | undefined): Promise<T> {
    this.begin(label);
    try {
      const result = await work();
      this.done(note?.(result));
      return result;
    } catch (err) {
      this.failed();
      throw err;
    }
  }

  #end(mark: string, note: string | undefined): void {
    if (!this.#step) return;
    if (note !== undefined) this.#step.note = note;
    clearInterval(this.#timer);
    this.#clear();
    this.#out.write(`${this.#line(mark)}\n`);
    this.#step = undefined;
  }

  #line(mark: string): string {
    const { label, began, note } = this.#step ?? { label: '', began: 0, note: '' };
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    return `  ${mark.padEnd(2)}  ${label.padEnd(LABEL_WIDTH)} ${`${seconds} s`.padStart(8)}  ${note}`.trimEnd();
  }

  #draw(): void {
    if (!this.#step || !this.#out.isTTY) return;
    const line = this.#line(FRAMES[this.#frame++ % FRAMES.length] as string);
    this.#clear();
    this.#out.write(line.slice(0, ((this.#out as WriteStream).columns || 80) - 1)); // a line that wraps could not be taken back
  }

  #clear(): void {
    if (this.#step && this.#out.isTTY) this.#out.write('\r\x1b[K');
  }
}
