/**
 * EC2 shows a database id as hex behind a prefix: instance 11 is `i-0000000b`. Today's ids have 17 digits, ours 8.
 * Source: Nova 2011.2 nova/api/ec2/ec2utils.py.
 */
export type IdPrefix = 'i' | 'ami' | 'aki' | 'ari' | 'vol' | 'snap' | 'sg' | 'key' | 'eipalloc' | 'eipassoc';

/** The largest id the database's integer columns hold. */
export const LARGEST_ID = 2 ** 31 - 1;

export const formatId = (prefix: IdPrefix, id: number): string => `${prefix}-${id.toString(16).padStart(8, '0')}`;

/** @returns the id; null when well-formed, but larger than any id can be; undefined when the text is no such id */
export function parseId(prefixes: readonly IdPrefix[], text: string): number | null | undefined {
  const parts = /^([a-z]+)-([0-9a-f]{1,17})$/i.exec(text);
  const [, prefix = '', hex = ''] = parts ?? [];
  if (!prefixes.some((known) => known === prefix)) return undefined;
  const id = Number.parseInt(hex, 16);
  return id <= LARGEST_ID ? id : null;
}
