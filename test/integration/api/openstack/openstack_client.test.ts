import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aFixedIp, anInstance, aNetwork, aStorageHost } from '../../../builders.ts';
import { needs } from '../../../rigs/needs.ts';
import { anApi } from './an_api.ts';
import { clientsOf } from './clients.ts';

test(
  'the openstack client of today logs in, lists, launches, reboots and deletes',
  { skip: needs('openstack') },
  async (t) => {
    const api = await anApi(t);
    await aStorageHost(api.db);
    const instance_id = await anInstance(api.db, { image_id: api.image });
    await aFixedIp(api.db, { network_id: await aNetwork(api.db), instance_id, address: '10.0.0.2' });
    const { openstack, json } = clientsOf(api);

    const listed = await json('server', 'list');
    assert.deepEqual(
      listed.map((row) => [row['Name'], row['Status'], row['Networks'], row['Image'], row['Flavor']]),
      [['web', 'ACTIVE', { private: ['10.0.0.2'] }, 'tiny', 'm1.tiny']],
    );
    const made = await json(
      'server',
      'create',
      '--image',
      'tiny',
      '--flavor',
      'm1.small',
      '--property',
      'role=db',
      'db',
    );
    assert.deepEqual([made['name'], made['status'], made['properties']], ['db', 'BUILD', { role: 'db' }]);
    await openstack('server', 'delete', 'db');
    await openstack('server', 'reboot', '--hard', 'web');
    const shown = await json('server', 'show', 'web');
    assert.deepEqual([shown['status'], shown['OS-EXT-STS:task_state']], ['REBOOT', 'rebooting']);
    assert.equal((await json('server', 'list')).length, 1);
    assert.match(await openstack('keypair', 'create', 'mine'), /^-----BEGIN RSA PRIVATE KEY-----/);
    assert.equal((await json('keypair', 'show', 'mine'))['name'], 'mine');
    assert.equal((await json('project', 'show', 'apollo'))['id'], 'apollo');
    for (const of of ['--compute', '--volume']) {
      const zones = await json('availability', 'zone', 'list', of);
      assert.deepEqual(
        zones.map((row) => [row['Zone Name'], row['Zone Status']]),
        [['nova', 'available']],
        of,
      );
    }
    assert.deepEqual(await json('image', 'list', '--private'), []);
    const token = (await json('token', 'issue'))['id'] ?? '';
    const flavors = () => api.raw('/v1.1/flavors', { headers: { 'x-auth-token': token } });
    assert.equal((await flavors()).status, 200);
    await openstack('token', 'revoke', token);
    assert.equal((await flavors()).status, 401);
    await assert.rejects(
      openstack('server', 'create', '--image', 'tiny', '--flavor', 'm1.tiny', '--min', '11', '--max', '11', 'x'),
      {
        stderr: /quota of project apollo/,
      },
    );
  },
);
