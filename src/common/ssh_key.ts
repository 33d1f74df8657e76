import { createHash, generateKeyPair as generate, type JsonWebKey } from 'node:crypto';
import { promisify } from 'node:util';
import { InvalidInput } from './errors.ts';

export interface SshKey {
  /** PEM, PKCS#1: what ssh of any age reads. Kept nowhere. */
  private_key: string;
  /** `ssh-rsa AAAA... comment` */
  public_key: string;
  fingerprint: string;
}

/** A new RSA key of 2048 bits. */
export async function generateSshKey(comment: string): Promise<SshKey> {
  const { publicKey, privateKey } = await promisify(generate)('rsa', { modulusLength: 2048 });
  const blob = sshBlob(publicKey.export({ format: 'jwk' }));
  return {
    private_key: privateKey.export({ type: 'pkcs1', format: 'pem' }).toString(),
    public_key: `ssh-rsa ${blob.toString('base64')} ${comment}`,
    fingerprint: fingerprint(blob),
  };
}

/** RFC 4253, 6.6: the algorithm's name, exponent and modulus, each with its length; numbers with room for a sign. */
function sshBlob({ e = '', n = '' }: JsonWebKey): Buffer {
  const number = (text: string): Buffer => {
    const bytes = Buffer.from(text, 'base64url');
    return (bytes[0] ?? 0) > 127 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes;
  };
  return Buffer.concat(
    [Buffer.from('ssh-rsa'), number(e), number(n)].flatMap((part) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(part.length);
      return [length, part];
    }),
  );
}

/** As `ssh-keygen -E md5 -l` prints it: `1f:51:ae:...`. */
const fingerprint = (blob: Buffer): string =>
  createHash('md5')
    .update(blob)
    .digest('hex')
    .replace(/..(?!$)/g, '$&:');

const LONGEST = 16_384;

/**
 * Checks a public key somebody wants to import: one line, `ALGORITHM BASE64 [COMMENT]`, any algorithm of OpenSSH.
 * @returns its fingerprint. @throws InvalidInput
 */
export function sshFingerprint(public_key: string): string {
  if (public_key.length > LONGEST) throw new InvalidInput(`the public key is longer than ${LONGEST} characters`);
  const [, algorithm, base64 = ''] =
    /^([a-z0-9@.-]+) ([A-Za-z0-9+/]+={0,2})(?: [^\r\n]*)?$/.exec(public_key.trim()) ?? [];
  const blob = Buffer.from(base64, 'base64');
  const length = blob.length > 4 ? blob.readUInt32BE() : 0;
  if (algorithm === undefined || blob.toString('latin1', 4, 4 + length) !== algorithm)
    throw new InvalidInput('the public key is not in OpenSSH form: one line such as "ssh-rsa AAAAB3... name"');
  return fingerprint(blob);
}
