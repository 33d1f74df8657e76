import type { NetworkInfo } from '../../common/network_info.ts';
import { ipv4Number, ipv4Text } from './ipv4.ts';

/** Addresses of QEMU's user-mode network for one card of a guest, dotted. */
export interface UserNetwork {
  /** `10.0.0.0/24` */
  net: string;
  /** The guest's, which QEMU's own DHCP gives it: its fixed ip. */
  address: string;
  gateway: string;
  dns: string;
  /** Where QEMU takes connections for the metadata service, since it cannot at 169.254.169.254 (guest_frames.ts). */
  metadata: string;
}

/**
 * The network of the card as the cloud has it, with two addresses from its upper end for QEMU's own use: such a guest
 * has the network to itself, so another guest's fixed ip is as free as any.
 */
export function userNetwork(nic: NetworkInfo): UserNetwork {
  const prefix = Math.min(nic.prefix, 29); // below that there is no room for guest, gateway, dns and metadata
  const size = 2 ** (32 - prefix);
  const address = ipv4Number(nic.address);
  const first = Math.floor(address / size) * size;
  const taken = new Set([address]);
  const take = (candidates: Iterable<number>): number => {
    for (const candidate of candidates) {
      if (taken.has(candidate)) continue;
      taken.add(candidate);
      return candidate;
    }
    throw new RangeError(`no free address in ${ipv4Text(first)}/${prefix}`); // six are enough for four
  };
  const given = nic.gateway === null ? first + 1 : ipv4Number(nic.gateway);
  const inside = given > first && given < first + size - 1;
  const gateway = take(inside ? [given, first + 1, first + 2] : [first + 1, first + 2]);
  const dns = take(downwards(first + size - 2));
  const metadata = take(downwards(first + size - 2));
  return {
    net: `${ipv4Text(first)}/${prefix}`,
    address: nic.address,
    gateway: ipv4Text(gateway),
    dns: ipv4Text(dns),
    metadata: ipv4Text(metadata),
  };
}

function* downwards(from: number): Generator<number> {
  for (let number = from; number > from - 6; number--) yield number;
}
