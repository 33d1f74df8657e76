import { S3Error } from './errors.ts';

/**
 * The `aws-chunked` coding, in which newer clients send what they sign or sum up while sending:
 *
 *   SIZE-HEX[;chunk-signature=HEX] CRLF   SIZE bytes   CRLF    ... again and again ...
 *   0[;chunk-signature=HEX] CRLF   [name:value CRLF]...   CRLF
 *
 * Source: AWS, "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks".
 */
export type ChunkEvent =
  | { kind: 'chunk'; size: number; signature: string | null }
  | { kind: 'data'; bytes: Buffer }
  /** All bytes of the chunk were seen; the last one has none. */
  | { kind: 'chunk_end' }
  | { kind: 'trailers'; trailers: Map<string, string> };

const LINE_BYTES = 8192;
const TRAILERS = 20;
const bad = (what: string): S3Error => new S3Error('IncompleteBody', `The aws-chunked body ${what}.`);

export class ChunkedDecoder {
  #state: 'size' | 'data' | 'data_end' | 'trailer' | 'done' = 'size';
  #line = '';
  #left = 0;
  readonly #trailers = new Map<string, string>();

  /** What these bytes tell. @throws S3Error IncompleteBody for what is not aws-chunked */
  *push(bytes: Buffer): Generator<ChunkEvent> {
    let at = 0;
    while (at < bytes.length) {
      if (this.#state === 'done') throw bad('goes on after its end');
      if (this.#state === 'data') {
        const part = bytes.subarray(at, at + this.#left);
        at += part.length;
        this.#left -= part.length;
        yield { kind: 'data', bytes: part };
        if (this.#left > 0) continue;
        this.#state = 'data_end';
        yield { kind: 'chunk_end' };
        continue;
      }
      const end = bytes.indexOf(10, at);
      this.#line += bytes.toString('latin1', at, end < 0 ? bytes.length : end);
      if (this.#line.length > LINE_BYTES) throw bad(`has a line of more than ${LINE_BYTES} bytes`);
      if (end < 0) return;
      at = end + 1;
      const line = this.#line.replace(/\r$/, '');
      this.#line = '';
      yield* this.#lineEnded(line);
    }
  }

  *#lineEnded(line: string): Generator<ChunkEvent> {
    if (this.#state === 'data_end') {
      if (line !== '') throw bad('has a chunk longer than its size says');
      this.#state = 'size';
    } else if (this.#state === 'size') {
      const match = /^([0-9a-fA-F]{1,12})(?:;chunk-signature=([0-9a-f]{64}))?$/.exec(line);
      if (!match) throw bad('has a chunk without a size');
      this.#left = parseInt(match[1] as string, 16);
      yield { kind: 'chunk', size: this.#left, signature: match[2] ?? null };
      this.#state = this.#left > 0 ? 'data' : 'trailer';
      if (this.#left === 0) yield { kind: 'chunk_end' };
    } else if (line !== '') {
      const colon = line.indexOf(':');
      if (colon < 1 || this.#trailers.size >= TRAILERS) throw bad('has a trailer that is not name:value');
      this.#trailers.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
    } else {
      this.#state = 'done';
      yield { kind: 'trailers', trailers: this.#trailers };
    }
  }

  /** @throws S3Error IncompleteBody when the last chunk has not come */
  end(): void {
    if (this.#state !== 'done') throw bad('ended before its last chunk');
  }
}
