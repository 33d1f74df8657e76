import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFloatingIps } from '../../../../src/common/db/floating_pool.ts';
import { poolAddresses } from '../../../../src/network/logic/floating.ts';
import { aFixedIp, anInstance, aNetwork } from '../../../builders.ts';
import { anApi } from './an_api.ts';

test('a floating address is taken, added to a server, shown after its fixed one, removed and given back', async (t) => {
  const api = await anApi(t);
  await createFloatingIps(api.db, () => poolAddresses('203.0.113.5', []));
  const [id, other] = [await anInstance(api.db), await anInstance(api.db)];
  await aFixedIp(api.db, { network_id: await aNetwork(api.db), instance_id: id, address: '10.0.0.2' });
  const act = (server: number, body: object) => api.ask('POST', `/servers/${server}/action`, body);

  assert.deepEqual((await api.ask('GET', '/os-floating-ip-pools')).json, { floating_ip_pools: [{ name: 'nova' }] });
  const made = await api.ask('POST', '/os-floating-ips');
  const free = { id: 1, ip: '203.0.113.5', fixed_ip: null, instance_id: null, pool: 'nova' };
  assert.deepEqual([made.status, made.json], [200, { floating_ip: free }]);
  assert.equal((await api.ask('POST', '/os-floating-ips', { pool: null })).status, 400); // none is left
  assert.equal((await act(id, { addFloatingIp: { address: '203.0.113.5' } })).status, 202);

  const led = { ...free, fixed_ip: '10.0.0.2', instance_id: id };
  assert.deepEqual((await api.ask('GET', '/os-floating-ips')).json, { floating_ips: [led] });
  assert.deepEqual((await api.ask('GET', '/os-floating-ips/1')).json, { floating_ip: led });
  assert.deepEqual((await api.ask('GET', `/servers/${id}`)).json.server.addresses, {
    private: [
      { version: 4, addr: '10.0.0.2' },
      { version: 4, addr: '203.0.113.5' },
    ],
  });
  assert.equal((await act(other, { removeFloatingIp: { address: '203.0.113.5' } })).status, 400);
  assert.equal((await act(other, { addFloatingIp: { address: '203.0.113.5' } })).status, 400); // it has no fixed address
  assert.equal((await act(id, { addFloatingIp: { address: '203.0.113.9' } })).status, 404);
  assert.equal((await act(id, { addFloatingIp: {} })).status, 400);
  assert.equal((await act(id, { removeFloatingIp: { address: '203.0.113.5' } })).status, 202);
  assert.deepEqual((await api.ask('GET', '/os-floating-ips/1')).json, { floating_ip: free });

  await act(id, { addFloatingIp: { address: '203.0.113.5' } });
  assert.equal((await api.ask('DELETE', '/os-floating-ips/1')).status, 202); // taken from its server first
  assert.deepEqual((await api.ask('GET', '/os-floating-ips')).json, { floating_ips: [] });
  assert.equal((await api.ask('DELETE', '/os-floating-ips/1')).status, 404);
  assert.equal((await api.ask('GET', '/os-floating-ips/web')).status, 404);
  assert.equal((await api.ask('GET', '/extensions/os-floating-ips')).status, 200);
});
