import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { aFixedIp, anInstance, aNetwork, aProject } from '../../../builders.ts';
import { anApi } from './an_api.ts';

/** A server that runs on node1 with 10.0.0.2 on network `private`. */
async function aServer(t: TestContext, over: Parameters<typeof anInstance>[1] = {}) {
  const api = await anApi(t, { network_manager: 'nova.network.manager.FlatDHCPManager' });
  const id = await anInstance(api.db, over);
  const network_id = await aNetwork(api.db);
  await aFixedIp(api.db, { network_id, instance_id: id, address: '10.0.0.2' });
  const act = async (action: string, body: unknown, server: number | string = id) =>
    (await api.ask('POST', `/servers/${server}/action`, { [action]: body })).status;
  const addresses = async (): Promise<string[]> =>
    (await api.ask('GET', `/servers/${id}`)).json.server.addresses.private.map(({ addr }: { addr: string }) => addr);
  const jobs = async () =>
    (await api.db.selectFrom('jobs').select(['topic', 'host', 'method', 'args']).orderBy('id').execute()).map(
      ({ args, ...job }) => ({ ...job, args: JSON.parse(args) as unknown }),
    );
  return { ...api, id, network_id, act, addresses, jobs };
}

test('a server gets further addresses of a network it is on, and its host and floating addresses hear of each change', async (t) => {
  const { db, id, network_id, act, addresses, jobs } = await aServer(t);
  const { uuid } = await db.selectFrom('networks').select('uuid').executeTakeFirstOrThrow();

  for (const networkId of [network_id, String(network_id), uuid])
    assert.equal(await act('addFixedIp', { networkId }), 202);

  assert.deepEqual(await addresses(), ['10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5']);
  const job = { topic: 'compute', host: 'node1' };
  const of = (address: string) => ({ instance_id: id, network_id, address });
  assert.deepEqual((await jobs())[0], { ...job, method: 'add_fixed_ip_to_instance', args: of('10.0.0.3') });

  assert.equal(await act('removeFixedIp', { address: '10.0.0.2' }), 202);
  assert.deepEqual(await addresses(), ['10.0.0.3', '10.0.0.4', '10.0.0.5']);
  assert.deepEqual((await jobs()).at(-1), { ...job, method: 'remove_fixed_ip_from_instance', args: of('10.0.0.2') });
  const [given_back] = await db.selectFrom('fixed_ips').selectAll().where('address', '=', '10.0.0.2').execute();
  assert.deepEqual([given_back?.allocated, given_back?.instance_id], [0, null], 'its lease may live');
});

test('what cannot be is refused, and nothing is changed', async (t) => {
  const { db, id, network_id, act, addresses, jobs } = await aServer(t);
  const elsewhere = await aNetwork(db, { cidr: '10.1.0.0/24', bridge: 'br7' });
  await aProject(db, 'borealis', 'bob');
  const theirs = await anInstance(db, { project_id: 'borealis' });
  const bad = [
    ['addFixedIp', {}],
    ['addFixedIp', { networkId: 'x' }],
    ['addFixedIp', { networkId: true }],
    ['addFixedIp', { networkId: -1 }],
    ['addFixedIp', { networkId: 999 }],
    ['addFixedIp', { networkId: elsewhere }],
    ['removeFixedIp', {}],
    ['removeFixedIp', { address: '10.0.0.300' }],
    ['removeFixedIp', { address: '10.0.0.77' }],
    ['removeFixedIp', { address: '10.0.0.2' }],
  ] as const;

  for (const [action, body] of bad) assert.equal(await act(action, body), 400, `${action} ${JSON.stringify(body)}`);
  for (const server of [theirs, 999, 'x'])
    assert.equal(await act('addFixedIp', { networkId: network_id }, server), 404);

  for (let n = 0; n < 7; n++) assert.equal(await act('addFixedIp', { networkId: network_id }), 202);
  assert.equal(await act('addFixedIp', { networkId: network_id }), 400, 'a card has eight at most');
  assert.equal((await addresses()).length, 8);
  await db.updateTable('instances').set({ task_state: 'rebooting' }).where('id', '=', id).execute();
  assert.equal(await act('removeFixedIp', { address: '10.0.0.3' }), 400);
  assert.equal((await jobs()).length, 7);
});
