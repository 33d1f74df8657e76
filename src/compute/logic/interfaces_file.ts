import type { NetworkInfo } from '../../common/network_info.ts';

/**
 * Debian's /etc/network/interfaces for a guest without DHCP: its cards in order are eth0, eth1, ... A card that DHCP
 * serves keeps it, since this file takes the place of the image's own.
 * Source: Nova 2011.2 nova/virt/interfaces.template.
 */
export function interfacesFile(nics: readonly NetworkInfo[]): string {
  const gateway_at = nics.findIndex((nic) => nic.injected && nic.gateway !== null); // a second default route is an error
  const cards = nics.map((nic, i) => [
    `auto eth${i}`,
    ...(nic.injected ? staticStanza(nic, i, i === gateway_at) : [`iface eth${i} inet dhcp`]),
  ]);
  return [['auto lo', 'iface lo inet loopback'], ...cards].map((lines) => `${lines.join('\n')}\n`).join('\n');
}

function staticStanza(nic: NetworkInfo, index: number, with_gateway: boolean): string[] {
  const lines = [
    `iface eth${index} inet static`,
    `    address ${nic.address}`,
    `    netmask ${nic.netmask}`,
    `    broadcast ${nic.broadcast}`,
  ];
  if (with_gateway) lines.push(`    gateway ${nic.gateway}`);
  if (nic.dns.length > 0) lines.push(`    dns-nameservers ${nic.dns.join(' ')}`);
  if (nic.address_v6 === null) return lines;
  const [address, length = '64'] = nic.address_v6.split('/');
  lines.push(`iface eth${index} inet6 static`, `    address ${address}`, `    netmask ${length}`);
  if (nic.gateway_v6 !== null) lines.push(`    gateway ${nic.gateway_v6}`);
  return lines;
}
