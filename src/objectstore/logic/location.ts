import { InvalidInput } from '../../common/errors.ts';

/** Splits `bucket/path/of/key` at the first slash. @throws InvalidInput */
export function parseLocation(location: string): { bucket: string; key: string } {
  const [, bucket = '', key = ''] = /^\/?([^/]+)\/(.+)$/s.exec(location.trim()) ?? [];
  if (bucket !== '' && key !== '') return { bucket, key };
  throw new InvalidInput(
    `ImageLocation '${location.slice(0, 100)}' is not BUCKET/KEY, such as web/tiny.img or web/tiny.manifest.xml`,
  );
}

export const isManifest = (key: string): boolean => key.endsWith('.manifest.xml');

/** What a new image is called when nobody named it: the file's name. */
export const nameOfLocation = (key: string): string =>
  (key.split('/').at(-1) ?? key).replace(/\.manifest\.xml$/, '').slice(0, 255);
