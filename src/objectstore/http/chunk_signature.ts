import { createHash, createHmac, type Hash } from 'node:crypto';
import { sha256Hex, type V4Claim } from '../../common/auth/signature_v4.ts';
import { sameText } from '../../common/auth/claim.ts';
import { S3Error } from '../logic/errors.ts';

const EMPTY = sha256Hex('');

/**
 * The chain of signatures in a signed aws-chunked body: each covers its chunk and the signature before it, the first one
 * that of the request. Source: AWS, "Transferring Payload in Multiple Chunks" (-PAYLOAD) and "with trailers" (-TRAILER).
 */
export class ChunkSignatures {
  readonly #key: Buffer;
  readonly #date: string;
  readonly #scope: string;
  #previous: string;
  #expected: string | null = null;
  #hash: Hash = createHash('sha256');

  constructor(claim: V4Claim, key: Buffer) {
    this.#key = key;
    this.#date = claim.amz_date;
    this.#scope = `${claim.date}/${claim.region}/${claim.service}/aws4_request`;
    this.#previous = claim.signature;
  }

  begin(signature: string | null): void {
    this.#expected = signature;
    this.#hash = createHash('sha256');
  }
  update(bytes: Buffer): void {
    this.#hash.update(bytes);
  }
  /** @throws S3Error SignatureDoesNotMatch */
  end(): void {
    this.#check('AWS4-HMAC-SHA256-PAYLOAD', this.#expected, `${EMPTY}\n${this.#hash.digest('hex')}`);
  }

  /** @throws S3Error SignatureDoesNotMatch */
  trailers(trailers: ReadonlyMap<string, string>): void {
    const signed = [...trailers].filter(([name]) => name !== 'x-amz-trailer-signature');
    const text = signed.map(([name, value]) => `${name}:${value}\n`).join('');
    this.#check('AWS4-HMAC-SHA256-TRAILER', trailers.get('x-amz-trailer-signature') ?? null, sha256Hex(text));
  }

  #check(kind: string, said: string | null, hashes: string): void {
    const text = `${kind}\n${this.#date}\n${this.#scope}\n${this.#previous}\n${hashes}`;
    const ours = createHmac('sha256', this.#key).update(text).digest('hex');
    if (said === null || !sameText(ours, said))
      throw new S3Error('SignatureDoesNotMatch', 'The signature of a part of the aws-chunked body does not fit it.');
    this.#previous = ours;
  }
}
