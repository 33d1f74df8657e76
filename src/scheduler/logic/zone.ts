import { chance } from './chance.ts';
import type { SchedulingRule } from './hosts.ts';

/** At random within the zone asked for, which `fitting` already holds to. Source: Nova 2011.2 nova/scheduler/zone.py. */
export const zone: SchedulingRule = chance;
