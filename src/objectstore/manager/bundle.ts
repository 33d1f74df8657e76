import { spawn } from 'node:child_process';
import { constants, createDecipheriv, privateDecrypt, type Decipher } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { InvalidInput, NovaError, UnsupportedOperation, errorText } from '../../common/errors.ts';
import type { Manifest } from './manifest.ts';

/** Why a bundle became no image; `image_state` is EC2's word for where it failed. */
export class BundleFailed extends InvalidInput {
  readonly image_state: string;
  constructor(image_state: 'failed_download' | 'failed_decrypt' | 'failed_untar', message: string, cause?: unknown) {
    super(message, cause === undefined ? {} : { cause });
    this.image_state = image_state;
  }
}

/** One text for all failures to decrypt: more would tell who sends made-up ciphertexts about the key. */
const cannotDecrypt = (cause?: unknown): BundleFailed =>
  new BundleFailed(
    'failed_decrypt',
    "the bundle cannot be decrypted with this cloud's key: bundle it with the cloud's certificate (--ec2cert cacert.pem)",
    cause,
  );

/** The private key that opens bundles, PEM. @throws UnsupportedOperation naming the command that makes it */
export async function readCloudKey(key_path: string): Promise<string> {
  try {
    return await readFile(key_path, 'utf8');
  } catch (err) {
    throw new UnsupportedOperation(
      `bundles cannot be opened: the private key of the cloud's CA was not read: ${errorText(err)}. ` +
        'nova-manage project zipfile on the host of nova-objectstore makes it (--ca_path, --key_file), ' +
        'and the cacert.pem to bundle with',
      { cause: err },
    );
  }
}

/**
 * The cipher of a bundle: key and iv, hex digits, are encrypted to the cloud's RSA key with PKCS#1 v1.5 padding. Node no
 * longer takes that padding off, so it is done here. @throws BundleFailed
 */
export async function bundleCipher(manifest: Manifest, key_path: string): Promise<Decipher> {
  const pem = await readCloudKey(key_path).catch((err: unknown) => {
    throw new BundleFailed('failed_decrypt', errorText(err), err);
  });
  try {
    const [key, iv] = [manifest.encrypted_key, manifest.encrypted_iv].map((hex) => unwrap(pem, hex));
    return createDecipheriv('aes-128-cbc', key as Buffer, iv as Buffer);
  } catch (err) {
    throw cannotDecrypt(err);
  }
}

/** 16 bytes, that were sent as 32 hex digits behind `00 02 <not zero>... 00`. */
function unwrap(pem: string, hex: string): Buffer {
  const block = privateDecrypt({ key: pem, padding: constants.RSA_NO_PADDING }, Buffer.from(hex, 'hex'));
  const digits = block
    .subarray(block.indexOf(0, 2) + 1)
    .toString('latin1')
    .trim();
  if (block[0] !== 0 || block[1] !== 2 || !/^[0-9a-fA-F]{32}$/.test(digits)) throw cannotDecrypt();
  return Buffer.from(digits, 'hex');
}

/**
 * The image in a bundle: parts one after the other, decrypted, then the one file of the gzipped tar. Nothing is written to
 * disk on the way. Ends only when all went well. @throws BundleFailed while it is read
 */
export function unpackBundle(
  parts: () => AsyncIterable<Buffer>,
  cipher: Decipher,
  limit_bytes: number | null,
): Readable {
  return Readable.from(unpack(parts, cipher, limit_bytes), { objectMode: false });
}

async function* unpack(
  parts: () => AsyncIterable<Buffer>,
  cipher: Decipher,
  limit_bytes: number | null,
): AsyncGenerator<Buffer> {
  // tar, not code of ours: bundlers store sparse images in forms that only it knows. -O: nothing is extracted to disk.
  const tar = spawn('tar', ['--extract', '--gzip', '--to-stdout', '--file=-'], { stdio: ['pipe', 'pipe', 'pipe'] });
  if (tar.pid === undefined) {
    // At the limit of open files it has no stdio either.
    const [err] = (await once(tar, 'error')) as [Error];
    throw new NovaError(`tar was not run: ${err.message}`, { cause: err });
  }
  let said = '';
  tar.stderr.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-1000)));
  const exited = once(tar, 'close') as Promise<[number | null]>;
  exited.catch(() => undefined); // one that may not be killed ends with its input
  const fed = pipeline(parts, cipher, tar.stdin).then(
    () => null,
    (err: unknown) => err,
  );
  let size = 0;
  try {
    for await (const bytes of tar.stdout as AsyncIterable<Buffer>) {
      size += bytes.length;
      if (limit_bytes !== null && size > limit_bytes)
        throw new BundleFailed(
          'failed_untar',
          `the bundle holds more than the ${limit_bytes} bytes that its manifest says`,
        );
      yield bytes;
    }
    const trouble = await fed;
    const [code] = await exited;
    if (trouble instanceof NovaError) throw trouble;
    if (isWrongKey(trouble)) throw cannotDecrypt(trouble);
    if (code !== 0)
      throw new BundleFailed(
        'failed_untar',
        `what was decrypted is not a gzipped tar: ${said.trim().split('\n').at(-1)}`,
      );
  } finally {
    tar.kill();
    await fed;
  }
}

/** OpenSSL's word for padding that is wrong at the end: another key, or parts that are damaged. */
const isWrongKey = (err: unknown): boolean =>
  /^ERR_(OSSL|CRYPTO)/.test(String((err as { code?: unknown } | null)?.code ?? ''));
