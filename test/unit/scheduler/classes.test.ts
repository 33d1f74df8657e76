import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Flags } from '../../../src/common/flags.ts';
import { schedulingRules } from '../../../src/scheduler/classes.ts';
import { chance } from '../../../src/scheduler/logic/chance.ts';
import { simple } from '../../../src/scheduler/logic/simple.ts';
import { volumeChance, volumeSimple } from '../../../src/scheduler/logic/volume_hosts.ts';

const CHANCE = 'nova.scheduler.chance.ChanceScheduler';
const SIMPLE = 'nova.scheduler.simple.SimpleScheduler';
const scheduler_driver = 'nova.scheduler.multi.MultiScheduler';
const rules = async (flags: Record<string, unknown>) => schedulingRules(Flags.of(flags));

test('the multi scheduler places instances by one rule and volumes by another', async () => {
  assert.deepEqual(await rules({ scheduler_driver, compute_scheduler_driver: SIMPLE }), {
    rule: simple,
    volume_rule: volumeChance,
  });
  assert.deepEqual(await rules({ scheduler_driver, volume_scheduler_driver: SIMPLE }), {
    rule: chance,
    volume_rule: volumeSimple,
  });
});

test('any other scheduler places both', async () => {
  const others = { compute_scheduler_driver: CHANCE, volume_scheduler_driver: CHANCE };
  assert.deepEqual(await rules({ ...others, scheduler_driver: SIMPLE }), { rule: simple, volume_rule: volumeSimple });
  assert.deepEqual(await rules({}), { rule: chance, volume_rule: volumeChance });
});

test('a scheduler that there is not is refused by the flag that names it, with the known ones', async () => {
  const flags = ['scheduler_driver', 'compute_scheduler_driver', 'volume_scheduler_driver'];
  for (const flag of flags)
    await assert.rejects(rules({ scheduler_driver, [flag]: 'nova.scheduler.simpel.Scheduler' }), {
      name: 'ClassNotFound',
      message: new RegExp(`^--${flag}=nova.scheduler.simpel.Scheduler: not a known class. Known: .*${SIMPLE}`),
    });
  await assert.rejects(rules({ scheduler_driver, compute_scheduler_driver: scheduler_driver }), {
    message: /^--compute_scheduler_driver=nova.scheduler.multi/,
  });
});
