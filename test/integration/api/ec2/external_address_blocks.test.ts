import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aMember, anEc2Api } from './an_ec2_api.ts';

test('an administrator blocks ranges of addresses for all guests, lists them and lets them go', async (t) => {
  const { ask, db } = await anEc2Api(t);
  await aMember(db, 'root', ['cloudadmin']);
  const blocks = async () => (await ask('DescribeExternalAddressBlocks', {}, 'root')).xml.externalIpBlockInfo;
  assert.equal(await blocks(), '');

  const blocked = await ask('BlockExternalAddresses', { Cidr: '192.0.2.7/24' }, 'root');

  assert.deepEqual([blocked.xml.status, blocked.xml.message], ['OK', 'Added 3 rules']);
  await ask('BlockExternalAddresses', { Cidr: '2001:db8::%2F32' }, 'root'); // as Nova's own tool sent it
  assert.deepEqual(await blocks(), [{ cidr: '192.0.2.0/24' }, { cidr: '2001:db8::/32' }]);
  assert.equal((await ask('BlockExternalAddresses', { Cidr: '192.0.2.0/24' }, 'root')).status, 400);

  const gone = await ask('RemoveExternalAddressBlock', { Cidr: '192.0.2.0/24' }, 'root');
  assert.equal(gone.xml.message, 'Deleted 3 rules');
  assert.equal(
    (await ask('RemoveExternalAddressBlock', { Cidr: '192.0.2.0/24' }, 'root')).xml.message,
    'Deleted 0 rules',
  );
  assert.deepEqual(await blocks(), [{ cidr: '2001:db8::/32' }]);
  assert.equal((await ask('BlockExternalAddresses', { Cidr: '192.0.2.0/24' }, 'root')).xml.message, 'Added 3 rules');
});

test('who is no administrator, or names no range, is told so', async (t) => {
  const { ask, db } = await anEc2Api(t);
  await aMember(db, 'root', ['cloudadmin']);

  for (const action of ['BlockExternalAddresses', 'DescribeExternalAddressBlocks', 'RemoveExternalAddressBlock'])
    assert.equal((await ask(action, { Cidr: '192.0.2.0/24' })).code, 'UnauthorizedOperation');
  for (const Cidr of ['x', '%', '1.2.3.4/33', '::1/200'])
    assert.equal((await ask('BlockExternalAddresses', { Cidr }, 'root')).code, 'InvalidParameterValue');
  assert.equal((await ask('BlockExternalAddresses', {}, 'root')).code, 'MissingParameter');
});
