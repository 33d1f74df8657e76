import { fileURLToPath } from 'node:url';
import { computedString, defineFlags, string } from '../../common/flags.ts';

// From dist/src/network/drivers/ to the project's root.
const shipped = (): string => fileURLToPath(new URL('../../../../bin/nova-dhcpbridge', import.meta.url));

export const dhcpFlags = defineFlags({
  networks_path: string('$state_path/networks', 'Folder of the files of DHCP servers'),
  dhcp_domain: string('novalocal', 'Domain of guests in DHCP'),
  dhcpbridge: computedString(
    'bin/nova-dhcpbridge of this installation',
    shipped,
    "Executable that is dnsmasq's lease hook",
  ),
  dhcpbridge_flagfile: string('/etc/nova/nova-dhcpbridge.conf', 'Flagfile of nova-dhcpbridge, handed on as FLAGFILE'),
  dnsmasq_config_file: string('', "Operator's own configuration for dnsmasq"),
  dns_server: string(null, "DNS server for guests in place of the host's own resolver"),
  dnsmasq_interface: string('br0', 'Bridge of nova-dhcpbridge where the environment has no DNSMASQ_INTERFACE'),
});
