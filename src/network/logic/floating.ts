import { InvalidInput } from '../../common/errors.ts';
import { formatIpv4, holds, notForHosts, parseCidr, parseIpv4, type Cidr } from './addresses.ts';

/** Why FlatManager has no floating addresses, for whoever asks. */
export const NO_FLOATING_IPS =
  '--network_manager=nova.network.manager.FlatManager has no floating ips: no host of its routes for guests. ' +
  'An operator who wants them runs nova.network.manager.FlatDHCPManager on every host';

/** Addresses of one command: a /16. */
const MOST = 2 ** 16;

export interface PoolBlock {
  first: number;
  last: number;
}

/**
 * The addresses that `203.0.113.0/28` or `203.0.113.5,203.0.113.9` stands for. Of a block larger than a /31 the network
 * address and the broadcast stay out. @throws InvalidInput
 */
export function poolBlocks(range: string): PoolBlock[] {
  const blocks = range.split(',').map((part) => blockOf(part.trim()));
  const count = blocks.reduce((sum, { first, last }) => sum + last - first + 1, 0);
  if (count > MOST) throw new InvalidInput(`${range} has ${count} addresses; one command takes ${MOST}`);
  return blocks;
}

function blockOf(part: string): PoolBlock {
  const block: Cidr = part.includes('/') ? parseCidr(part) : { base: parseIpv4(part), prefix: 32, size: 1 };
  const never = notForHosts(block);
  if (never !== undefined) throw new InvalidInput(`${part} cannot be floating ips: ${never} is not for hosts`);
  const whole = block.prefix >= 31;
  return { first: whole ? block.base : block.base + 1, last: block.base + block.size - (whole ? 1 : 2) };
}

/** Every address once. @param fixed guests' own networks, in which none may lie. @throws InvalidInput */
export function poolAddresses(
  range: string,
  fixed: readonly { cidr: string }[],
): { address: string; address_number: number }[] {
  const numbers = new Set(
    poolBlocks(range).flatMap(({ first, last }) => Array.from({ length: last - first + 1 }, (_, i) => first + i)),
  );
  for (const { cidr } of fixed) {
    const inside = [...numbers].find((number) => holds(parseCidr(cidr), number));
    if (inside !== undefined)
      throw new InvalidInput(
        `${formatIpv4(inside)} is a fixed ip of network ${cidr}; floating ips are other addresses`,
      );
  }
  return [...numbers].map((number) => ({ address: formatIpv4(number), address_number: number }));
}
