import { loadClass, type ClassTable } from '../common/class_names.ts';
import type { Difference } from '../common/difference.ts';
import { ClassNotFound } from '../common/errors.ts';
import { boolean, defineFlags, string, type Flags } from '../common/flags.ts';
import type { Log } from '../common/log.ts';
import type { NetworkDriver } from './drivers/driver.ts';
import type { VlanInterfacesClass } from './drivers/vlan_interfaces.ts';
import type { NetworkManagerClass } from './manager/deps.ts';

const flat = () => import('./manager/flat.ts').then((m) => m.FlatManager);
const flatDhcp = () => import('./manager/flat_dhcp.ts').then((m) => m.FlatDhcpManager);
const vlan = () => import('./manager/vlan.ts').then((m) => m.VlanManager);

/** Nova had it, this release does not: said by name. */
const absent = (name: string) => async (): Promise<never> => {
  throw new ClassNotFound(
    `--network_manager=${name} is not part of this release. ` +
      'Use nova.network.manager.VlanManager (a network for each project), nova.network.manager.FlatDHCPManager (one for all) or nova.network.manager.FlatManager (the same, without DHCP), the same on every host',
  );
};
const QUANTUM = 'nova.network.quantum.manager.QuantumManager';

/** --network_manager */
export const NETWORK_MANAGERS: ClassTable<NetworkManagerClass> = {
  'nova.network.manager.FlatManager': flat,
  'nova.network.manager.FlatDHCPManager': flatDhcp,
  'nova.network.manager.VlanManager': vlan,
  [QUANTUM]: absent(QUANTUM),
};

export const networkDriverFlags = defineFlags({
  fake_network: boolean(false, 'Keep networks in memory and leave the host alone'),
  network_driver: string('nova.network.linux_net', 'What touches the host, by its dotted name'),
  linuxnet_interface_driver: string(
    'nova.network.linux_net.LinuxBridgeInterfaceDriver',
    'How VLANs are made: by the kernel, or with LinuxOVSInterfaceDriver by Open vSwitch',
  ),
});

type NetworkDriverClass = new (deps: {
  flags: Flags;
  log: Log;
  binary: string;
  Vlans: VlanInterfacesClass;
}) => NetworkDriver;

/** --linuxnet_interface_driver */
const VLAN_INTERFACES: ClassTable<VlanInterfacesClass> = {
  'nova.network.linux_net.LinuxBridgeInterfaceDriver': () =>
    import('./drivers/vlan_interfaces.ts').then((m) => m.KernelVlans),
  'nova.network.linux_net.LinuxOVSInterfaceDriver': () => import('./drivers/ovs_vlans.ts').then((m) => m.OvsVlans),
};

/** --network_driver, unless --fake_network */
const NETWORK_DRIVERS: ClassTable<NetworkDriverClass> = {
  'nova.network.linux_net': () => import('./drivers/linux_net.ts').then((m) => m.LinuxNetDriver),
  'nova.network.fake': () => import('./drivers/fake.ts').then((m) => m.FakeNetworkDriver),
};

/** A driver that only looks, at what makeNetworkDriver's makes; null where that touches no host. @throws ClassNotFound */
export async function makeLookingDriver(
  deps: { flags: Flags; log: Log; binary: string },
  found: (difference: Difference) => void,
): Promise<NetworkDriver | null> {
  const { fake_network, network_driver, linuxnet_interface_driver } = deps.flags.read(networkDriverFlags);
  if (fake_network || network_driver !== 'nova.network.linux_net') return null;
  const Vlans = await loadClass(VLAN_INTERFACES, linuxnet_interface_driver, 'linuxnet_interface_driver');
  const { LookingDriver } = await import('./drivers/looking.ts');
  return new LookingDriver({ ...deps, Vlans }, found);
}

/** @param binary whose rules the driver's are. @throws ClassNotFound */
export async function makeNetworkDriver(deps: { flags: Flags; log: Log; binary: string }): Promise<NetworkDriver> {
  const { fake_network, network_driver, linuxnet_interface_driver } = deps.flags.read(networkDriverFlags);
  const name = fake_network ? 'nova.network.fake' : network_driver;
  const Driver = await loadClass(NETWORK_DRIVERS, name, 'network_driver');
  const Vlans = await loadClass(VLAN_INTERFACES, linuxnet_interface_driver, 'linuxnet_interface_driver');
  return new Driver({ ...deps, Vlans });
}
