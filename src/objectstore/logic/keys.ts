import { S3Error } from './errors.ts';

/**
 * Buckets and keys as names on disk. A key becomes ONE file name, whatever it holds: `/`, `%`, control characters and a
 * leading dot are written as %XX, so no key can climb out of its bucket, `a` and `a/b` can both exist, and the file of a
 * simple key is named like the key.
 */
const BUCKET = /^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$/;
const KEY_BYTES = 1024;
/** Most file systems allow 255 bytes; a sidecar's name adds its token. */
const FILE_BYTES = 220;

/** @throws S3Error InvalidBucketName */
export function checkBucketName(name: string): string {
  if (BUCKET.test(name)) return name;
  throw new S3Error(
    'InvalidBucketName',
    'A bucket name has 1 to 255 letters, digits, dots, hyphens and underscores, and starts with a letter or digit.',
  );
}

/** @throws S3Error KeyTooLongError */
export function checkKey(key: string): string {
  const bytes = key.length * 3 <= KEY_BYTES ? 0 : Buffer.byteLength(key);
  if (bytes <= KEY_BYTES) return key;
  throw new S3Error('KeyTooLongError', `The key has ${bytes} bytes; at most ${KEY_BYTES} are allowed.`);
}

const UNSAFE = /[\u0000-\u001f\u007f/%]|^\./g;

const escapeCharacter = (c: string): string => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;

/** The file name of a key, or null for one too long to be spelt out. */
export function fileOfKey(key: string): string | null {
  const name = key.replace(UNSAFE, escapeCharacter);
  return name.length * 3 <= FILE_BYTES || Buffer.byteLength(name) <= FILE_BYTES ? name : null;
}

/** The key of a file name, or null when no key has that file: not one of ours, or one too long to be spelt out. */
export function keyOfFile(name: string): string | null {
  if (!name.includes('%') && !name.startsWith('.')) return name;
  const key = name.replace(/%([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  return fileOfKey(key) === name ? key : null;
}

/** Splits `/bucket/key` as it stands in the request line. @throws S3Error InvalidURI, InvalidBucketName, KeyTooLongError */
export function parsePath(path: string): { bucket: string | null; key: string | null } {
  if (path === '/' || path === '') return { bucket: null, key: null };
  const slash = path.indexOf('/', 1);
  const bucket = checkBucketName(decode(slash < 0 ? path.slice(1) : path.slice(1, slash)));
  const key = slash < 0 ? '' : decode(path.slice(slash + 1));
  return { bucket, key: key === '' ? null : checkKey(key) };
}

function decode(text: string): string {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch (err) {
    throw new S3Error('InvalidURI', 'The path is not URL-encoded UTF-8.', { cause: err });
  }
}
