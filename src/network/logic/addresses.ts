import { Address6 } from 'ip-address';
import { InvalidInput } from '../../common/errors.ts';

/**
 * IPv4 addresses as numbers (0 to 2^32 - 1), so that ranges are arithmetic; text is dotted everywhere else.
 * What may be given to a guest is decided here and nowhere else: never the network address, the gateway or the broadcast.
 */
export interface Cidr {
  /** First address of the block. */
  base: number;
  /** 0 to 32. */
  prefix: number;
  /** How many addresses it holds, network and broadcast counted. */
  size: number;
}

/** @returns the address as a number, or null when the text is not four decimal octets (`010` and `1.2.3` are not). */
export function ipv4Number(text: string): number | null {
  const octets = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1);
  if (!octets || octets.some((octet) => Number(octet) > 255 || (octet.length > 1 && octet.startsWith('0'))))
    return null;
  return octets.reduce((sum, octet) => sum * 256 + Number(octet), 0);
}

/** @throws InvalidInput */
export function parseIpv4(text: string): number {
  const number = ipv4Number(text);
  if (number === null) throw new InvalidInput(`${text}: not an IPv4 address (four numbers from 0 to 255 with dots)`);
  return number;
}

export const formatIpv4 = (number: number): string =>
  [number / 2 ** 24, number / 2 ** 16, number / 2 ** 8, number].map((n) => Math.floor(n) % 256).join('.');

/** `10.0.0.0/24`. Host bits must be zero: `10.0.0.5/24` is refused with the block that was probably meant. @throws InvalidInput */
export function parseCidr(text: string): Cidr {
  const [address, length] = text.split('/');
  const base = ipv4Number(address ?? '');
  const prefix = /^\d{1,2}$/.test(length ?? '') ? Number(length) : NaN;
  if (base === null || !(prefix <= 32) || text.split('/').length !== 2) {
    throw new InvalidInput(`${text}: not an IPv4 block such as 10.0.0.0/24`);
  }
  const size = 2 ** (32 - prefix);
  if (base % size !== 0) {
    throw new InvalidInput(`${text}: host bits are set; a /${prefix} starts at ${formatIpv4(base - (base % size))}`);
  }
  return { base, prefix, size };
}

export const formatCidr = ({ base, prefix }: Pick<Cidr, 'base' | 'prefix'>): string => `${formatIpv4(base)}/${prefix}`;
export const netmaskOf = ({ size }: Cidr): string => formatIpv4(2 ** 32 - size);
export const broadcastOf = ({ base, size }: Cidr): string => formatIpv4(base + size - 1);
export const contains = (outer: Cidr, inner: Cidr): boolean =>
  outer.base <= inner.base && inner.base + inner.size <= outer.base + outer.size;
export const overlaps = (a: Cidr, b: Cidr): boolean => a.base < b.base + b.size && b.base < a.base + a.size;
export const holds = ({ base, size }: Cidr, address: number): boolean => address >= base && address < base + size;

/** What a network row says of its addresses; all dotted IPv4. */
export interface AddressPlan {
  cidr: string;
  gateway: string | null;
  /** First address for guests; null, or outside the cidr: the lowest that is allowed. */
  dhcp_start: string | null;
}

/** The addresses for guests: `first` to `last`, both included, but not `except`. Empty when `first > last`. */
export interface GuestRange {
  first: number;
  last: number;
  /** The gateway, where it lies in the range. */
  except: number | null;
}

/**
 * @param top addresses kept at the top beside the broadcast (VlanManager's VPN clients)
 * Nova's own count left the broadcast address free to be given to a guest; here it never is.
 */
export function guestRange(plan: AddressPlan, top = 0): GuestRange {
  const block = parseCidr(plan.cidr);
  const start = plan.dhcp_start === null ? null : ipv4Number(plan.dhcp_start);
  const first = start !== null && holds(block, start) ? Math.max(start, block.base + 1) : block.base + 1;
  const last = block.base + block.size - 2 - top;
  const gateway = plan.gateway === null ? null : ipv4Number(plan.gateway);
  return { first, last, except: gateway !== null && gateway >= first && gateway <= last ? gateway : null };
}

export const inGuestRange = (range: GuestRange, address: number): boolean =>
  address >= range.first && address <= range.last && address !== range.except;

export const guestRangeSize = ({ first, last, except }: GuestRange): number =>
  Math.max(0, last - first + 1 - (except === null ? 0 : 1));

/** The next address for guests at or above `from`, or null at the end of the range. */
export function nextGuestAddress(range: GuestRange, from: number): number | null {
  const wanted = Math.max(from, range.first);
  const next = wanted === range.except ? wanted + 1 : wanted;
  return next <= range.last ? next : null;
}

/**
 * A MAC of Nova's block: `02:16:3e` and three random octets, the first below 0x80.
 * @param random 0 to 1, exclusive. Source: Nova 2011.2 nova/utils.py, generate_mac.
 */
export function generateMac(random: () => number): string {
  const octet = (bound: number) => hexOctet(Math.floor(random() * bound));
  return `02:16:3e:${octet(0x80)}:${octet(0x100)}:${octet(0x100)}`;
}

const hexOctet = (n: number): string => n.toString(16).padStart(2, '0');

/** What a network row says of its gateway's IPv6 address. */
interface GatewayV6 {
  cidr_v6: string | null;
  gateway_v6: string | null;
  multi_host: number;
}

/**
 * A host's IPv6 address on a network whose gateway it is. Of a multi_host network each host has its own: the /64 and, as
 * its last 32 bits, the host's IPv4 address there, which no guest makes of its MAC.
 * @param address the host's, dotted; null where it has none
 */
export function hostV6(network: GatewayV6, address: string | null): string | null {
  const { cidr_v6, gateway_v6, multi_host } = network;
  if (multi_host === 0) return gateway_v6;
  if (cidr_v6 === null || address === null) return null;
  return Address6.fromBigInt(new Address6(cidr_v6).startAddress().bigInt() | BigInt(parseIpv4(address))).correctForm();
}

/** This network, loopback, link-local, multicast and what is above it. */
const NOT_FOR_HOSTS = ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3'];

/** The block of addresses that no host can have which this one overlaps. */
export const notForHosts = (block: Cidr): string | undefined =>
  NOT_FOR_HOSTS.find((one) => overlaps(parseCidr(one), block));
