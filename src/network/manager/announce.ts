import { boolean, defineFlags, type FlagValues } from '../../common/flags.ts';
import type { NetworkManagerDeps } from './deps.ts';

export const announceFlags = defineFlags({
  // Nova's was false, since it failed without arping; here the host that lacks it goes without.
  send_arp_for_ha: boolean(true, 'Tell neighbours by ARP of a floating or gateway address that comes to this host'),
});

/** Of addresses that were just put on a device. Not waited for, since it takes a second; what goes wrong is logged. */
export function announceNew(
  { driver, log }: Pick<NetworkManagerDeps, 'driver' | 'log'>,
  { send_arp_for_ha }: FlagValues<typeof announceFlags>,
  device: string,
  come: readonly string[],
  signal: AbortSignal,
): void {
  if (!send_arp_for_ha || come.length === 0) return;
  void driver.announce(device, come, signal).catch((err: unknown) => log.warn({ err }, 'gratuitous ARP not sent'));
}
