import { loadClass, type ClassTable } from '../common/class_names.ts';
import { defineFlags, string, type Flags } from '../common/flags.ts';
import type { SchedulingRule } from './logic/hosts.ts';
import type { VolumeRule } from './logic/volume_hosts.ts';
import type { SchedulerManager } from './manager/scheduler.ts';

export const managerFlags = defineFlags({
  scheduler_manager: string('nova.scheduler.manager.SchedulerManager', 'Class behind topic scheduler'),
});

/** --scheduler_manager: there is one. */
const MANAGERS: ClassTable<typeof SchedulerManager> = {
  'nova.scheduler.manager.SchedulerManager': () => import('./manager/scheduler.ts').then((m) => m.SchedulerManager),
};

/** @throws ClassNotFound */
export const managerClass = (flags: Flags): Promise<typeof SchedulerManager> =>
  loadClass(MANAGERS, flags.read(managerFlags).scheduler_manager, 'scheduler_manager');

export const schedulerDriverFlags = defineFlags({
  scheduler_driver: string('nova.scheduler.chance.ChanceScheduler', 'How a host is picked'),
  compute_scheduler_driver: string(
    'nova.scheduler.chance.ChanceScheduler',
    'How a host is picked for instances, with nova.scheduler.multi.MultiScheduler as --scheduler_driver',
  ),
  volume_scheduler_driver: string(
    'nova.scheduler.chance.ChanceScheduler',
    'How a host is picked for volumes, with nova.scheduler.multi.MultiScheduler as --scheduler_driver',
  ),
});

interface Rules {
  rule: SchedulingRule;
  volume_rule: VolumeRule;
}

const volumeChance = () => import('./logic/volume_hosts.ts').then((m) => m.volumeChance);

/** --compute_scheduler_driver */
const RULES: ClassTable<SchedulingRule> = {
  'nova.scheduler.chance.ChanceScheduler': () => import('./logic/chance.ts').then((m) => m.chance),
  'nova.scheduler.simple.SimpleScheduler': () => import('./logic/simple.ts').then((m) => m.simple),
  'nova.scheduler.zone.ZoneScheduler': () => import('./logic/zone.ts').then((m) => m.zone),
};
/** --volume_scheduler_driver */
const VOLUME_RULES: ClassTable<VolumeRule> = {
  'nova.scheduler.chance.ChanceScheduler': volumeChance,
  'nova.scheduler.simple.SimpleScheduler': () => import('./logic/volume_hosts.ts').then((m) => m.volumeSimple),
  'nova.scheduler.zone.ZoneScheduler': volumeChance,
};

/** --scheduler_driver: one rule for both, or Diablo's multi, for each one of its own. @throws ClassNotFound */
export function schedulingRules(flags: Flags): Promise<Rules> {
  const { scheduler_driver, compute_scheduler_driver, volume_scheduler_driver } = flags.read(schedulerDriverFlags);
  const one = async (name: string): Promise<Rules> => ({
    rule: await loadClass(RULES, name, 'scheduler_driver'),
    volume_rule: await loadClass(VOLUME_RULES, name, 'scheduler_driver'),
  });
  const each = async (): Promise<Rules> => ({
    rule: await loadClass(RULES, compute_scheduler_driver, 'compute_scheduler_driver'),
    volume_rule: await loadClass(VOLUME_RULES, volume_scheduler_driver, 'volume_scheduler_driver'),
  });
  const drivers: ClassTable<Rules> = {
    ...Object.fromEntries(Object.keys(RULES).map((name) => [name, () => one(name)])),
    'nova.scheduler.multi.MultiScheduler': each,
  };
  return loadClass(drivers, scheduler_driver, 'scheduler_driver');
}
