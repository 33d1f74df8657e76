import assert from 'node:assert/strict';
import { test } from 'node:test';
import { writing } from '../../../src/common/db/connect.ts';
import { allocateFloatingIp, associateFloatingIp } from '../../../src/common/db/floating_ips.ts';
import { FloatingIpExists, FloatingIpInUse, HostNotFound, InvalidInput } from '../../../src/common/errors.ts';
import { floatingCommands } from '../../../src/manage/floating.ts';
import { networkCommands } from '../../../src/manage/network.ts';
import { aContext, aDatabase, aFixedIp, anInstance, aNetwork, aProject } from '../../builders.ts';
import { run } from './a_manage.ts';

test('floating create, list and delete keep the pool, and none is deleted while it leads to an instance', async (t) => {
  const db = await aDatabase(t);
  await aProject(db);
  const floating = (verb: string, args = {}) => run(db, floatingCommands, verb, args);
  const instance_id = await anInstance(db);
  await aFixedIp(db, { network_id: await aNetwork(db, { host: 'net1' }), instance_id, address: '10.0.0.2' });

  assert.deepEqual(await floating('create', { range: '203.0.113.0/30' }), [
    '2 addresses added, 203.0.113.1 to 203.0.113.2',
  ]);
  await assert.rejects(floating('create', { range: '203.0.113.2' }), FloatingIpExists);
  assert.match((await floating('create', { range: 'net1', after_host: '198.51.100.9' })).join(), /net1 is left out/);
  const { address } = await writing(db, (tx) =>
    allocateFloatingIp(tx, 'sqlite', { project_id: 'apollo', limit: null }),
  );
  await writing(db, (tx) => associateFloatingIp(tx, 'sqlite', aContext(), address, instance_id));

  const listed = (await floating('list')).map((line) => line.split(/ +/));
  assert.deepEqual(listed, [
    ['host', 'address', 'instance', 'fixed', 'project'],
    ['None', '198.51.100.9', 'None', 'None', 'None'],
    ['net1', '203.0.113.1', 'i-00000001', '10.0.0.2', 'apollo'],
    ['None', '203.0.113.2', 'None', 'None', 'None'],
  ]);
  assert.equal((await floating('list', { host: 'net1' })).length, 2);
  await assert.rejects(floating('list', { host: 'nett1' }), HostNotFound);
  await assert.rejects(floating('delete', { range: '203.0.113.0/24' }), FloatingIpInUse);
  assert.deepEqual(await floating('delete', { range: '203.0.113.2,198.51.100.9' }), ['2 addresses deleted']);
  assert.equal((await floating('list')).length, 2);
});

const FLAT = { network_manager: 'nova.network.manager.FlatDHCPManager' };

test('what cannot be floating ips is refused with the reason', async (t) => {
  const db = await aDatabase(t);
  await aNetwork(db);
  const create = (range: string) => run(db, floatingCommands, 'create', { range });

  await assert.rejects(create('10.0.0.128/28'), /10\.0\.0\.129 is a fixed ip of network 10\.0\.0\.0\/24/);
  await create('192.168.7.9');
  const network = (fixed_range: string) => run(db, networkCommands, 'create', { fixed_range }, FLAT);
  await assert.rejects(
    network('192.168.7.0/24'),
    (err) =>
      err instanceof FloatingIpExists &&
      /192\.168\.7\.0\/24 has the floating ip 192\.168\.7\.9 in it/.test(err.message),
  );
  await network('192.168.8.0/24');
  await assert.rejects(create('203.0.113.5/28'), /a \/28 starts at 203\.0\.113\.0/);
  await assert.rejects(create('127.0.0.0/28'), /127\.0\.0\.0\/8 is not for hosts/);
  await assert.rejects(create('20.0.0.0/8'), /one command takes 65536/);
  await assert.rejects(create('web'), InvalidInput);
});
