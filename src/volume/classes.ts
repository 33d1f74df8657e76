import { loadClass, type ClassTable } from '../common/class_names.ts';
import { ClassNotFound } from '../common/errors.ts';
import { defineFlags, string, type Flags } from '../common/flags.ts';
import type { Log } from '../common/log.ts';
import type { VolumeDriver, VolumeDriverClass } from './drivers/driver.ts';
import type { VolumeManager } from './manager/volume.ts';

export const managerFlags = defineFlags({
  volume_manager: string('nova.volume.manager.VolumeManager', 'Class behind topic volume'),
});

/** --volume_manager: there is one. */
const MANAGERS: ClassTable<typeof VolumeManager> = {
  'nova.volume.manager.VolumeManager': () => import('./manager/volume.ts').then((m) => m.VolumeManager),
};

/** @throws ClassNotFound */
export const managerClass = (flags: Flags): Promise<typeof VolumeManager> =>
  loadClass(MANAGERS, flags.read(managerFlags).volume_manager, 'volume_manager');

const fake = () => import('./drivers/fake.ts').then((m) => m.FakeVolumeDriver);

const file = () => import('./drivers/file.ts').then((m) => m.FileISCSIDriver);
const lvm = () => import('./drivers/lvm.ts').then((m) => m.ISCSIDriver);

/** --volume_driver */
const CARRIED: ClassTable<VolumeDriverClass> = {
  'nova.volume.driver.ISCSIDriver': lvm,
  'nova.volume.driver.FileISCSIDriver': file,
  'nova.volume.driver.FakeISCSIDriver': fake,
};

/** Nova had these, this suite does not: said by name, so that nobody takes it for a misspelling. */
const ABSENT = [
  'nova.volume.driver.AOEDriver',
  'nova.volume.driver.FakeAOEDriver',
  'nova.volume.driver.RBDDriver',
  'nova.volume.driver.SheepdogDriver',
  'nova.volume.driver.LoggingVolumeDriver',
  'nova.volume.driver.ZadaraBEDriver',
  'nova.volume.san.SanISCSIDriver',
  'nova.volume.san.SolarisISCSIDriver',
  'nova.volume.san.HpSanISCSIDriver',
];

const absent = (name: string) => async (): Promise<never> => {
  throw new ClassNotFound(
    `--volume_driver=${name}: Nova's driver of that name is not part of this suite. Use ${Object.keys(CARRIED).join(', ')}`,
  );
};

/** The driver of a dotted name. @throws ClassNotFound naming flag, value and what is carried */
export async function makeVolumeDriver(volume_driver: string, deps: { flags: Flags; log: Log }): Promise<VolumeDriver> {
  const table: ClassTable<VolumeDriverClass> = { ...CARRIED };
  if (!Object.hasOwn(CARRIED, volume_driver) && ABSENT.includes(volume_driver))
    table[volume_driver] = absent(volume_driver);
  const Driver = await loadClass(table, volume_driver, 'volume_driver');
  return new Driver(deps);
}
