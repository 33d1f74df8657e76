import { isIPv4 } from 'node:net';
import {
  FloatingIpNotFound,
  ImageNotFound,
  InstanceNotFound,
  InvalidInput,
  MissingParameter,
  SnapshotNotFound,
  VolumeNotFound,
  type NotFound,
} from '../../common/errors.ts';
import { parseId, type IdPrefix } from './ids.ts';
import type { ParamNode } from './query.ts';

/**
 * One parameter of an action: text in, a typed value out. Every error names the parameter as the client wrote it
 * (`Filter.2.Name`). A parameter is required unless `optional` says otherwise.
 */
export interface Param<T> {
  /** What it takes, in words: for documentation and for error texts. */
  readonly kind: string;
  readonly required: boolean;
  /** Whether an empty text is a value; if not, an optional parameter sent empty counts as not sent. */
  readonly takes_empty: boolean;
  /** @throws MissingParameter, InvalidInput */
  decode(node: ParamNode | undefined, name: string): T;
}
export type Params = Readonly<Record<string, Param<unknown>>>;
/** What `run` gets for these parameters. */
export type Values<P extends Params> = { readonly [K in keyof P]: P[K] extends Param<infer T> ? T : never };

export function decodeParams<P extends Params>(params: P, root: ParamNode, prefix = ''): Values<P> {
  const values: Record<string, unknown> = {};
  for (const [name, param] of Object.entries(params)) {
    values[name] = param.decode(root.children?.get(name), prefix + name);
  }
  return values as Values<P>;
}

/** @throws InvalidInput naming the parameter, its value and what it takes */
function refuse(name: string, value: string, kind: string): never {
  throw new InvalidInput(`${name} '${value.slice(0, 80)}' is not ${kind}`);
}

/** One text. `X.1` alone counts as `X`, as some clients send it. */
function scalar<T>(kind: string, parse: (text: string, name: string) => T, takes_empty = false): Param<T> {
  return {
    kind,
    required: true,
    takes_empty,
    decode(node, name) {
      const text = node?.value ?? (node?.children?.size === 1 ? node.children.get('1')?.value : undefined);
      if (text === undefined && node?.children) throw new InvalidInput(`${name} is ${kind}, not a list or a structure`);
      if (text === undefined) throw new MissingParameter(`the parameter ${name} is missing: ${kind}`);
      if (text === '' && !takes_empty) throw new MissingParameter(`the parameter ${name} is empty: ${kind}`);
      return parse(text, name);
    },
  };
}

export function optional<T>(param: Param<T>): Param<T | undefined>;
export function optional<T>(param: Param<T>, value: T): Param<T>;
export function optional<T>(param: Param<T>, value?: T): Param<T | undefined> {
  return {
    ...param,
    required: false,
    decode(node, name) {
      const sent = node !== undefined && (node.value !== '' || node.children !== undefined || param.takes_empty);
      return sent ? param.decode(node, name) : value;
    },
  };
}

/** Text of `min` to `max` characters; default 1 to 255. */
export function str({
  min = 1,
  max = 255,
  pattern,
}: { min?: number; max?: number; pattern?: RegExp } = {}): Param<string> {
  const kind = `text of ${min} to ${max} characters${pattern ? ` like ${pattern.source}` : ''}`;
  const parse = (text: string, name: string) => {
    if (text.length < min || text.length > max) {
      throw new InvalidInput(`${name} has ${text.length} characters; ${min} to ${max} are allowed`);
    }
    return !pattern || pattern.test(text) ? text : refuse(name, text, kind);
  };
  return scalar(kind, parse, min === 0);
}

/** One of these words, spelt like this. */
export function word<const W extends string>(words: readonly W[]): Param<W> {
  const kind = `one of ${words.join(', ')}`;
  return scalar(kind, (text, name) => words.find((known) => known === text) ?? refuse(name, text, kind));
}

export function int({ min = -(2 ** 31), max = 2 ** 31 - 1 }: { min?: number; max?: number } = {}): Param<number> {
  const kind = `a whole number from ${min} to ${max}`;
  return scalar(kind, (text, name) => {
    const value = /^[+-]?\d{1,15}$/.test(text) ? Number(text) : NaN;
    return value >= min && value <= max ? value : refuse(name, text, kind);
  });
}

export const bool = (): Param<boolean> =>
  scalar('true or false', (text, name) => {
    const lower = text.toLowerCase();
    if (lower === 'true' || lower === '1') return true;
    return lower === 'false' || lower === '0' ? false : refuse(name, text, 'true or false');
  });

/** A dotted IPv4 address. */
export const ipv4 = (): Param<string> =>
  scalar('an IPv4 address such as 10.0.0.5', (text, name) =>
    isIPv4(text) ? text : refuse(name, text, 'an IPv4 address such as 10.0.0.5'),
  );

/** An IPv4 range, its host bits cleared as AWS does; a bare address is a /32. */
export function cidr(): Param<string> {
  const kind = 'an IPv4 range such as 10.0.0.0/24';
  return scalar(kind, (text, name) => {
    const [, address = '', bits = '32'] = /^([\d.]+)(?:\/(\d{1,2}))?$/.exec(text) ?? [];
    if (!isIPv4(address) || Number(bits) > 32) return refuse(name, text, kind);
    const kept = 2 ** (32 - Number(bits));
    const number = address.split('.').reduce((sum, byte) => sum * 256 + Number(byte), 0);
    const first = number - (number % kept);
    return `${[24, 16, 8, 0].map((shift) => Math.floor(first / 2 ** shift) % 256).join('.')}/${Number(bits)}`;
  });
}

/** Hex id to database id; one too large for the database is simply not there. */
function ec2Id(prefixes: readonly IdPrefix[], what: string, Missing: new (message: string) => NotFound): Param<number> {
  const kind = `${what} id such as ${prefixes[0]}-0000000b`;
  return scalar(kind, (text, name) => {
    const id = parseId(prefixes, text);
    if (id === null) throw new Missing(`there is no ${what} ${text}`);
    return id ?? refuse(name, text, kind);
  });
}
export const instanceId = (): Param<number> => ec2Id(['i'], 'instance', InstanceNotFound);
export const imageId = (): Param<number> => ec2Id(['ami', 'aki', 'ari'], 'image', ImageNotFound);
export const volumeId = (): Param<number> => ec2Id(['vol'], 'volume', VolumeNotFound);
export const allocationId = (): Param<number> => ec2Id(['eipalloc'], 'allocation', FloatingIpNotFound);
export const associationId = (): Param<number> => ec2Id(['eipassoc'], 'association', FloatingIpNotFound);
export const snapshotId = (): Param<number> => ec2Id(['snap'], 'snapshot', SnapshotNotFound);

/** Base64 to bytes, at most `max_bytes` decoded; line breaks inside are allowed. */
export function base64({ max_bytes }: { max_bytes: number }): Param<Buffer> {
  const kind = `base64 of at most ${max_bytes} bytes`;
  const parse = (text: string, name: string) => {
    const packed = text.replace(/\s+/g, '');
    if (packed.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(packed)) return refuse(name, text, kind);
    const bytes = Buffer.from(packed, 'base64');
    if (bytes.length <= max_bytes) return bytes;
    throw new InvalidInput(`${name} has ${bytes.length} bytes decoded; at most ${max_bytes} are allowed`);
  };
  return scalar(kind, parse, true);
}

/** `X.1`, `X.2`, ... in the order of the numbers, and a plain `X` as a list of one. `min` 1 makes it required. */
export function list<T>(of: Param<T>, { min = 0, max = 1000 }: { min?: number; max?: number } = {}): Param<T[]> {
  return {
    kind: `list of ${of.kind}`,
    required: min > 0,
    takes_empty: false,
    decode(node, name) {
      const items = node === undefined ? [] : numbered(node, name);
      if (items.length < min) throw new MissingParameter(`the parameter ${name}.1 is missing: ${of.kind}`);
      if (items.length > max) throw new InvalidInput(`${name} has ${items.length} items; at most ${max} are allowed`);
      return items.map(([item, path]) => of.decode(item, path));
    },
  };
}

function numbered(node: ParamNode, name: string): [ParamNode, string][] {
  const items: [number, ParamNode, string][] = [];
  for (const [key, child] of node.children ?? []) {
    if (!/^\d{1,9}$/.test(key))
      throw new InvalidInput(`${name}.${key.slice(0, 80)}: number the items, ${name}.1, ${name}.2`);
    items.push([Number(key), child, `${name}.${key}`]);
  }
  items.sort((a, b) => a[0] - b[0]);
  const plain: [ParamNode, string][] =
    node.value === undefined || node.value === '' ? [] : [[{ value: node.value, children: undefined }, name]];
  return [...plain, ...items.map(([, child, path]): [ParamNode, string] => [child, path])];
}

/** `X.Name`, `X.Value`: named parts, each a parameter of its own. */
export function struct<P extends Params>(fields: P): Param<Values<P>> {
  const kind = `a structure of ${Object.keys(fields).join(', ')}`;
  return {
    kind,
    required: true,
    takes_empty: false,
    decode(node, name) {
      if (node?.value !== undefined)
        throw new InvalidInput(`${name} is ${kind}: write ${name}.${Object.keys(fields)[0]}`);
      return decodeParams(fields, node ?? { value: undefined, children: undefined }, `${name}.`);
    },
  };
}
