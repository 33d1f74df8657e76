import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { endQuarantine, releaseFixedIps } from '../../../src/common/db/fixed_ips.ts';
import { allNetworks } from '../../../src/common/db/networks.ts';
import { Flags } from '../../../src/common/flags.ts';
import { projectCommands } from '../../../src/manage/project.ts';
import { claimRange } from '../../../src/network/manager/address_book.ts';
import { createVlanNetworks } from '../../../src/network/manager/create_networks.ts';
import { aDatabase, anInstance, aProject } from '../../builders.ts';
import { tempDir } from '../../rigs/tmp.ts';
import { run } from './a_manage.ts';
import { claimFixedIp } from '../../claim_fixed_ip.ts';

test('a novarc and a zip are readable by their owner alone, also in place of files that others read', async (t) => {
  const db = await aDatabase(t);
  await aProject(db);
  const dir = tempDir(t, 'secrets');
  const [novarc, link, elsewhere] = [join(dir, 'novarc'), join(dir, 'link'), join(dir, 'elsewhere')];
  for (const file of [novarc, elsewhere]) writeFileSync(file, 'old', { mode: 0o644 });
  symlinkSync(elsewhere, link);

  for (const file of [novarc, link])
    await run(db, projectCommands, 'environment', { project: 'apollo', user: 'ann', file });

  for (const file of [novarc, elsewhere]) {
    assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.match(readFileSync(file, 'utf8'), /ann-secret/);
  }
  assert.deepEqual(readdirSync(dir).sort(), ['elsewhere', 'link', 'novarc']);
});

test('project scrub frees the networks of a project without instances, one whose leases live a little later', async (t) => {
  const db = await aDatabase(t);
  await aProject(db);
  const asked = { fixed_range: '10.0.0.0/24', num_networks: 2, network_size: 16, project_id: 'apollo' };
  await createVlanNetworks({ db, flags: Flags.of() }, asked);
  const [network] = await allNetworks(db);
  assert.ok(network);
  const instance_id = await anInstance(db);
  await claimFixedIp(db, claimRange(network), instance_id, null);
  const scrub = () => run(db, projectCommands, 'scrub', { project: 'apollo' });
  await assert.rejects(scrub(), /apollo has 1 instances: terminate them first/);
  assert.equal((await allNetworks(db))[1]?.project_id, 'apollo');

  await releaseFixedIps(db, instance_id, true);
  await db.updateTable('instances').set({ deleted: 1 }).execute();

  assert.deepEqual(await scrub(), [
    '10.0.0.0/28 is free when the leases of its last addresses have ended (nova-manage fixed list)',
    '10.0.0.16/28 is free',
  ]);
  await endQuarantine(db, '9999-01-01T00:00:00.000Z');
  assert.deepEqual(await scrub(), ['10.0.0.0/28 is free']);
  assert.deepEqual(
    (await allNetworks(db)).map(({ project_id }) => project_id),
    [null, null],
  );
});
