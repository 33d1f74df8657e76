import type { Noun } from './noun.ts';

/** Every noun by its names (the first is its own, the others are Nova's aliases); loaded when it is asked for. */
export const NOUNS: readonly { names: readonly [string, ...string[]]; load(): Promise<Noun> }[] = [
  { names: ['user'], load: () => import('./user.ts').then((m) => m.userCommands) },
  { names: ['project', 'account'], load: () => import('./project.ts').then((m) => m.projectCommands) },
  { names: ['role'], load: () => import('./role.ts').then((m) => m.roleCommands) },
  { names: ['service'], load: () => import('./service.ts').then((m) => m.serviceCommands) },
  { names: ['network'], load: () => import('./network.ts').then((m) => m.networkCommands) },
  { names: ['vpn'], load: () => import('./vpn.ts').then((m) => m.vpnCommands) },
  { names: ['fixed'], load: () => import('./fixed.ts').then((m) => m.fixedCommands) },
  { names: ['floating'], load: () => import('./floating.ts').then((m) => m.floatingCommands) },
  { names: ['vm'], load: () => import('./vm.ts').then((m) => m.vmCommands) },
  { names: ['instance_type', 'flavor'], load: () => import('./instance_type.ts').then((m) => m.instanceTypeCommands) },
  { names: ['image'], load: () => import('./image.ts').then((m) => m.imageCommands) },
  { names: ['volume'], load: () => import('./volume.ts').then((m) => m.volumeCommands) },
  { names: ['job'], load: () => import('./job.ts').then((m) => m.jobCommands) },
  { names: ['explain'], load: () => import('./explain.ts').then((m) => m.explainCommands) },
  { names: ['db'], load: () => import('./db.ts').then((m) => m.dbCommands) },
  { names: ['flags'], load: () => import('./flags.ts').then((m) => m.flagsCommands) },
];
