import { loadClass, type ClassTable } from '../common/class_names.ts';
import { ClassNotFound } from '../common/errors.ts';
import { boolean, defineFlags, string, type Flags } from '../common/flags.ts';
import type { Log } from '../common/log.ts';
import type { ComputeDriver, ComputeDriverClass, FirewallDriver, FirewallDriverClass } from './drivers/driver.ts';
import type { ComputeManager } from './manager/compute.ts';

export const managerFlags = defineFlags({
  compute_manager: string('nova.compute.manager.ComputeManager', 'Class behind topic compute'),
});

/** --compute_manager: there is one. */
const MANAGERS: ClassTable<typeof ComputeManager> = {
  'nova.compute.manager.ComputeManager': () => import('./manager/compute.ts').then((m) => m.ComputeManager),
};

/** @throws ClassNotFound */
export const managerClass = (flags: Flags): Promise<typeof ComputeManager> =>
  loadClass(MANAGERS, flags.read(managerFlags).compute_manager, 'compute_manager');

export const driverFlags = defineFlags({
  connection_type: string('libvirt', 'Hypervisor: libvirt, qemu (without root and libvirtd) or fake'),
  compute_driver: string(
    'nova.virt.connection.get_connection',
    'Driver by its dotted name; the default leaves the choice to --connection_type',
  ),
});

const libvirt = () => import('./drivers/libvirt/driver.ts').then((m) => m.LibvirtDriver);
const qemu = () => import('./drivers/qemu/driver.ts').then((m) => m.QemuDriver);
const fake = () => import('./drivers/fake.ts').then((m) => m.FakeDriver);

/** Nova drove this hypervisor, we do not: its users hear so by name and not as a misspelling. */
const absent = (name: string) => async (): Promise<never> => {
  throw new ClassNotFound(`--connection_type=${name}: Nova's ${name} driver is not part of this suite. ${KNOWN}`);
};
const KNOWN = 'Use libvirt, qemu or fake';

/** --connection_type to its driver. */
const CONNECTION_TYPES: ClassTable<ComputeDriverClass> = {
  libvirt,
  qemu,
  fake,
  xenapi: absent('xenapi'),
  hyperv: absent('hyperv'),
  vmwareapi: absent('vmwareapi'),
};

/** --compute_driver to its driver, where it names one and does not leave the choice to --connection_type. */
const COMPUTE_DRIVERS: ClassTable<ComputeDriverClass> = {
  'nova.virt.libvirt_conn.LibvirtConnection': libvirt,
  'nova.virt.libvirt.connection.LibvirtConnection': libvirt,
  'nova.virt.qemu.QemuConnection': qemu,
  'nova.virt.fake.FakeConnection': fake,
};

/** The driver that the flags choose. @throws ClassNotFound naming flag, value and what is known */
export async function makeComputeDriver(deps: { flags: Flags; log: Log }): Promise<ComputeDriver> {
  const { compute_driver, connection_type } = deps.flags.read(driverFlags);
  const byType = (type: string) => loadClass(CONNECTION_TYPES, type, 'connection_type');
  const table: ClassTable<ComputeDriverClass> = {
    'nova.virt.connection.get_connection': () => byType(connection_type),
    ...COMPUTE_DRIVERS,
  };
  const Driver = await loadClass(table, compute_driver, 'compute_driver');
  return new Driver(deps);
}

export const firewallFlags = defineFlags({
  // Diablo's name for it; both are known.
  firewall_driver: string(
    'nova.virt.libvirt.firewall.IptablesFirewallDriver',
    'What enforces security groups for guests on bridges (libvirt), by its dotted name; nova.virt.firewall.NoopFirewallDriver: nothing does',
  ),
  fake_network: boolean(false, 'Keep networks in memory and leave the host alone'),
});

const iptables = () => import('./drivers/libvirt/firewall.ts').then((m) => m.IptablesFirewallDriver);

/** --firewall_driver; null enforces nothing. */
const FIREWALL_DRIVERS: ClassTable<FirewallDriverClass | null> = {
  'nova.virt.libvirt.firewall.IptablesFirewallDriver': iptables,
  'nova.virt.libvirt_conn.IptablesFirewallDriver': iptables,
  'nova.virt.firewall.NoopFirewallDriver': () => Promise.resolve(null),
};

/**
 * The firewall of guests on bridges of this host. Null where the flags want none, and where no guest is on a bridge: the
 * drivers qemu and fake, and --fake_network. @throws ClassNotFound
 */
export async function makeFirewallDriver(deps: { flags: Flags; log: Log }): Promise<FirewallDriver | null> {
  const { compute_driver, connection_type } = deps.flags.read(driverFlags);
  const { firewall_driver, fake_network } = deps.flags.read(firewallFlags);
  const Driver = await loadClass(FIREWALL_DRIVERS, firewall_driver, 'firewall_driver');
  const on_bridges = (COMPUTE_DRIVERS[compute_driver] ?? CONNECTION_TYPES[connection_type]) === libvirt;
  return Driver === null || !on_bridges || fake_network ? null : new Driver(deps);
}
