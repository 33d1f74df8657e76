import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFloatingIps } from '../../../../src/common/db/floating_pool.ts';
import { poolAddresses } from '../../../../src/network/logic/floating.ts';
import { aFixedIp, anInstance, aNetwork } from '../../../builders.ts';
import { atEnd, type Scope } from '../../../rigs/tmp.ts';
import { aMember, anEc2Api } from './an_ec2_api.ts';

/** Two addresses in the pool, an instance with 10.0.0.2, and `net`, who may change addresses. */
async function aCloud(t: Scope, flags: Record<string, unknown> = {}) {
  const api = await anEc2Api(
    { after: (end) => atEnd(t, async () => void (await (end as () => unknown)())) },
    { flags },
  );
  await createFloatingIps(api.db, () => poolAddresses('203.0.113.5,203.0.113.6', []));
  await aMember(api.db, 'net', ['netadmin']);
  const network_id = await aNetwork(api.db, { host: 'net1' });
  const instance_id = await anInstance(api.db);
  await aFixedIp(api.db, { network_id, instance_id, address: '10.0.0.2' });
  const ask = (action: string, params: Record<string, string> = {}) => api.ask(action, params, 'net');
  return { ...api, asks: api.ask, ask, id: `i-${instance_id.toString(16).padStart(8, '0')}` };
}

test('an address is allocated, led to an instance, shown there, taken away and released', async (t) => {
  const { ask, id } = await aCloud(t);

  const made = await ask('AllocateAddress');
  const { publicIp, allocationId, domain } = made.xml;
  assert.deepEqual([publicIp, allocationId, domain], ['203.0.113.5', 'eipalloc-00000001', 'standard']);
  const led = await ask('AssociateAddress', { InstanceId: id, AllocationId: allocationId });
  assert.deepEqual([led.xml.return, led.xml.associationId, led.xml.associateResponse], ['true', 'eipassoc-00000001', ['Address associated.']]); // prettier-ignore

  assert.deepEqual((await ask('DescribeAddresses')).xml.addressesSet, [
    {
      publicIp,
      allocationId,
      domain,
      instanceId: id,
      associationId: 'eipassoc-00000001',
      privateIpAddress: '10.0.0.2',
    },
  ]);
  const [reservation] = (await ask('DescribeInstances')).xml.reservationSet;
  const [instance] = reservation.instancesSet;
  assert.deepEqual(
    [instance.ipAddress, instance.dnsName, instance.publicDnsName, instance.privateIpAddress],
    [publicIp, publicIp, publicIp, '10.0.0.2'],
  );

  const busy = await ask('ReleaseAddress', { PublicIp: publicIp });
  assert.equal(busy.code, 'InvalidIPAddress.InUse');
  assert.match(busy.message ?? '', /203\.0\.113\.5 leads to i-0000000\d: disassociate it first/);
  const apart = await ask('DisassociateAddress', { AssociationId: 'eipassoc-00000001' });
  assert.deepEqual(apart.xml.disassociateResponse, ['Address disassociated.']);
  assert.equal((await ask('DescribeAddresses', { PublicIp: publicIp })).xml.addressesSet[0].instanceId, '');
  assert.equal((await ask('ReleaseAddress', { AllocationId: allocationId })).xml.return, 'true');
  assert.equal((await ask('DescribeAddresses')).xml.addressesSet, '');
});

test('addresses are found by filters, and one that is not the project’s is not there', async (t) => {
  const { ask, id } = await aCloud(t);
  await ask('AllocateAddress');
  await ask('AllocateAddress', { Domain: 'vpc' });
  await ask('AssociateAddress', { InstanceId: id, PublicIp: '203.0.113.6' });
  const found = async (Name: string, Value: string) =>
    [(await ask('DescribeAddresses', { 'Filter.1.Name': Name, 'Filter.1.Value.1': Value })).xml.addressesSet].flat().map((one) => one.publicIp); // prettier-ignore

  assert.deepEqual(await found('instance-id', id), ['203.0.113.6']);
  assert.deepEqual(await found('public-ip', '*.5'), ['203.0.113.5']);
  assert.deepEqual(await found('allocation-id', 'eipalloc-00000002'), ['203.0.113.6']);
  const code = async (action: string, params: Record<string, string>) => (await ask(action, params)).code;
  assert.equal(await code('DescribeAddresses', { PublicIp: '203.0.113.7' }), 'InvalidAddress.NotFound');
  assert.equal(await code('ReleaseAddress', { AllocationId: 'eipalloc-00000009' }), 'InvalidAddress.NotFound');
  assert.equal(await code('ReleaseAddress', { PublicIp: 'web' }), 'InvalidParameterValue');
  assert.equal(await code('ReleaseAddress', {}), 'InvalidParameterValue');
  const held = { InstanceId: 'i-000000ff', PublicIp: '203.0.113.5' };
  assert.equal(await code('AssociateAddress', held), 'InvalidInstanceID.NotFound');
});

test('an address is not taken from another instance when AllowReassociation is false', async (t) => {
  const { db, ask, id } = await aCloud(t);
  const other = await anInstance(db);
  await aFixedIp(db, { network_id: 1, instance_id: other, address: '10.0.0.3' });
  await ask('AllocateAddress');
  await ask('AssociateAddress', { InstanceId: id, PublicIp: '203.0.113.5' });
  const to = { InstanceId: `i-${other.toString(16).padStart(8, '0')}`, PublicIp: '203.0.113.5' };

  assert.equal((await ask('AssociateAddress', { ...to, AllowReassociation: 'false' })).code, 'InvalidIPAddress.InUse');
  assert.equal((await ask('AssociateAddress', to)).xml.return, 'true');
});

test('only who has the role netadmin changes addresses, as far as the quota and the pool reach', async (t) => {
  const { ask, asks } = await aCloud(t, { quota_floating_ips: 1 });

  const refused = await asks('AllocateAddress', {}, 'ann'); // the project's manager
  assert.deepEqual([refused.status, refused.code], [401, 'UnauthorizedOperation']);
  await ask('AllocateAddress');
  assert.equal((await ask('AllocateAddress')).code, 'AddressLimitExceeded');
  const { ask: unlimited } = await aCloud(t, { quota_floating_ips: -1 });
  await unlimited('AllocateAddress');
  await unlimited('AllocateAddress');
  assert.equal((await unlimited('AllocateAddress')).code, 'InsufficientAddressCapacity');
  const { ask: flat } = await aCloud(t, { network_manager: 'nova.network.manager.FlatManager' });
  assert.equal((await flat('AllocateAddress')).code, 'UnsupportedOperation');
});
