import { Address6 } from 'ip-address';
import { InvalidInput } from './errors.ts';

/**
 * The address that a guest gives itself from a router's advertisement: prefix and EUI-64 of its MAC. Diablo's other
 * `--ipv6_backend`, account_identifier, is an address that no guest would take from one.
 * @param prefix a /64, e.g. `fd00::/64` @param mac with colons @returns shortest IPv6 text @throws InvalidInput
 */
export function eui64Address(prefix: string, mac: string): string {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(mac)) throw new InvalidInput(`${mac}: not a MAC address`);
  if (!Address6.isValid(prefix)) throw new InvalidInput(`${prefix}: not an IPv6 block such as fd00::/64`);
  const network = new Address6(prefix);
  if (network.subnetMask > 64) throw new InvalidInput(`${prefix}: an EUI-64 address needs a /64 or wider`);
  const [first, ...rest] = mac.split(':').map((octet) => parseInt(octet, 16)) as [number, ...number[]];
  const id = [first ^ 2, rest[0], rest[1], 0xff, 0xfe, rest[2], rest[3], rest[4]];
  const suffix = id.reduce<bigint>((sum, octet) => (sum << 8n) | BigInt(octet ?? 0), 0n);
  return Address6.fromBigInt(network.startAddress().bigInt() | suffix).correctForm();
}
