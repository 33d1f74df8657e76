import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { parseStringPromise } from 'xml2js';
import { signingKey, UNSIGNED_PAYLOAD, type V4Claim } from '../../common/auth/signature_v4.ts';
import { checksumOf, type Checksum } from './checksums.ts';
import { ChunkSignatures } from './chunk_signature.ts';
import { S3Error } from '../logic/errors.ts';
import { ChunkedDecoder } from '../logic/chunked.ts';
import { SMALL_BYTES } from '../drivers/sidecars.ts';
import { header, type S3Call } from './call.ts';

/** What a request carries, as its sender vouched for it. */
export interface RequestBody {
  /** Read once; ends only when length, signatures and sums are right, and throws S3Error otherwise. */
  chunks: AsyncIterable<Buffer>;
  /** To be called with the md5 of all of it, before it counts. @throws S3Error BadDigest, InvalidDigest */
  check: (md5: Buffer) => void;
  /** Headers to answer with: the sums that were checked. */
  sums: Record<string, string>;
}

/** The end of a body that goes unread is skipped up to this size, so that the connection can be used again. */
export const SKIP_BYTES = 16 * 1024 * 1024;

const SIGNED_CHUNKS = /^STREAMING-AWS4-HMAC-SHA256-PAYLOAD(-TRAILER)?$/;
const UNSIGNED_CHUNKS = 'STREAMING-UNSIGNED-PAYLOAD-TRAILER';

/** A sum that the sender gives, and the one worked out here while the bytes pass. */
interface Sum {
  sum: Checksum;
  said: string;
  encoding: 'base64' | 'hex';
  code: 'BadDigest' | 'XAmzContentSHA256Mismatch';
}

/** @throws S3Error InvalidRequest for a coding of the body that is not known */
export function requestBody(call: S3Call): RequestBody {
  const payload = 'payload_hash' in call.claim ? call.claim.payload_hash : UNSIGNED_PAYLOAD;
  const sums = new Map<string, Sum>();
  for (const name in call.req.headers) {
    const sum = checksumOf(name);
    if (sum) sums.set(name, { sum, said: header(call, name) ?? '', encoding: 'base64', code: 'BadDigest' });
  }
  const answer: Record<string, string> = {};
  let chunks = rawChunks(call);
  if (payload.startsWith('STREAMING-')) chunks = decoded(call, chunks, payload, sums);
  else if (payload !== UNSIGNED_PAYLOAD)
    sums.set('x-amz-content-sha256', {
      sum: createHash('sha256'),
      said: payload.toLowerCase(),
      encoding: 'hex',
      code: 'XAmzContentSHA256Mismatch',
    });
  const with_trailer = call.req.headers['x-amz-trailer'] !== undefined;
  if (sums.size > 0 || with_trailer) chunks = summed(chunks, sums, answer);
  return { chunks, check: md5Check(call), sums: answer };
}

/** The bytes on the wire; a client that waits for a go-ahead gets it with the first read. */
async function* rawChunks({ req, res }: S3Call): AsyncGenerator<Buffer> {
  if (req.headers.expect !== undefined) res.writeContinue();
  if (Number(req.headers['content-length']) <= SMALL_BYTES) yield* await readSmall(req);
  // The request must outlive a body that is refused: its answer goes out on the same socket.
  else yield* req.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
}

/** By events: a stream's iterator costs more than all else that is done for a small object. */
function readSmall(req: IncomingMessage): Promise<Buffer[]> {
  return new Promise((resolve, reject) => {
    const gone = () => reject(new Error('the client went away'));
    if (req.destroyed) return gone(); // while its sender was looked up
    const parts: Buffer[] = [];
    req.on('data', (part: Buffer) => parts.push(part));
    req.once('end', () => resolve(parts));
    req.once('error', reject);
    req.once('close', gone); // after `end` it changes nothing
  });
}

async function* decoded(
  call: S3Call,
  raw: AsyncIterable<Buffer>,
  payload: string,
  sums: Map<string, Sum>,
): AsyncGenerator<Buffer> {
  const length = header(call, 'x-amz-decoded-content-length');
  if (length === undefined || !/^\d{1,15}$/.test(length))
    throw new S3Error('InvalidRequest', 'An aws-chunked body needs its length in x-amz-decoded-content-length.');
  const signed = SIGNED_CHUNKS.exec(payload);
  if (!signed && payload !== UNSIGNED_CHUNKS)
    throw new S3Error('InvalidRequest', `The payload coding ${payload.slice(0, 80)} is not known here.`);
  const claim = call.claim as V4Claim;
  const signatures = signed ? new ChunkSignatures(claim, signingKey(call.caller.secret_key, claim)) : null;
  for (const name of (header(call, 'x-amz-trailer') ?? '').toLowerCase().split(',')) {
    const sum = checksumOf(name.trim());
    if (sum) sums.set(name.trim(), { sum, said: '', encoding: 'base64', code: 'BadDigest' });
  }
  const decoder = new ChunkedDecoder();
  let size = 0;
  for await (const bytes of raw) {
    for (const event of decoder.push(bytes)) {
      if (event.kind === 'chunk') signatures?.begin(event.signature);
      else if (event.kind === 'chunk_end') signatures?.end();
      else if (event.kind === 'trailers') {
        if (signed?.[1] !== undefined) signatures?.trailers(event.trailers);
        for (const [name, sum] of sums) sum.said = event.trailers.get(name) ?? sum.said;
      } else {
        signatures?.update(event.bytes);
        size += event.bytes.length;
        if (size > Number(length)) break;
        yield event.bytes;
      }
    }
  }
  if (size !== Number(length))
    throw new S3Error('IncompleteBody', `The body has ${size} bytes; x-amz-decoded-content-length says ${length}.`);
  decoder.end();
}

async function* summed(
  chunks: AsyncIterable<Buffer>,
  sums: Map<string, Sum>,
  answer: Record<string, string>,
): AsyncGenerator<Buffer> {
  for await (const bytes of chunks) {
    for (const { sum } of sums.values()) sum.update(bytes);
    yield bytes;
  }
  for (const [name, { sum, said, encoding, code }] of sums) {
    const ours = sum.digest().toString(encoding);
    if (ours !== said) throw new S3Error(code, `${name} is ${said.slice(0, 100)}; the body received has ${ours}.`);
    if (encoding === 'base64') answer[name] = ours;
  }
}

function md5Check(call: S3Call): (md5: Buffer) => void {
  const said = header(call, 'content-md5');
  if (said === undefined) return () => undefined;
  if (Buffer.from(said, 'base64').length !== 16)
    throw new S3Error('InvalidDigest', 'Content-MD5 is not the base64 of an md5.');
  return (md5) => {
    if (md5.toString('base64') !== said.trim())
      throw new S3Error('BadDigest', `Content-MD5 is ${said}; the body received has ${md5.toString('base64')}.`);
  };
}

/** A whole body in memory. @throws S3Error EntityTooLarge */
export async function readAll(call: S3Call, limit_bytes: number): Promise<Buffer> {
  const { chunks, check } = requestBody(call);
  const parts: Buffer[] = [];
  let size = 0;
  for await (const bytes of chunks) {
    size += bytes.length;
    if (size > limit_bytes)
      throw new S3Error(
        'EntityTooLarge',
        `The body has more than the ${limit_bytes} bytes that this request may have.`,
      );
    parts.push(bytes);
  }
  const all = Buffer.concat(parts);
  check(createHash('md5').update(all).digest());
  return all;
}

/** XML in, as nested lists by element name. @throws S3Error MalformedXML, EntityTooLarge */
export async function readXml(call: S3Call, root: string, limit_bytes: number): Promise<Record<string, unknown>> {
  const text = (await readAll(call, limit_bytes)).toString('utf8');
  let tree: unknown;
  try {
    tree = await parseStringPromise(text, { explicitRoot: true, ignoreAttrs: true, async: false });
  } catch (err) {
    throw new S3Error('MalformedXML', 'The body is not XML.', { cause: err });
  }
  const found = (tree as Record<string, unknown> | null)?.[root];
  if (typeof found === 'object' && found !== null) return found as Record<string, unknown>;
  throw new S3Error('MalformedXML', `The body is not a ${root} document with something in it.`);
}

/** The elements of that name below a parsed element. */
export function children(parent: Record<string, unknown>, name: string): Record<string, unknown>[] {
  const found = parent[name];
  return Array.isArray(found) ? found.filter((item) => typeof item === 'object' && item !== null) : [];
}
/** The text of the first element of that name, or null. */
export function childText(parent: Record<string, unknown>, name: string): string | null {
  const found = parent[name];
  const first: unknown = Array.isArray(found) ? found[0] : undefined;
  return typeof first === 'string' ? first : null;
}
