import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nowText } from '../../../../src/common/clock.ts';
import { generateSshKey } from '../../../../src/common/ssh_key.ts';
import { aMember, anEc2Api } from './an_ec2_api.ts';

test('a key pair is made, imported, listed and forgotten', async (t) => {
  const api = await anEc2Api(t);
  const own = (await generateSshKey('own')).public_key;

  const made = await api.ask('CreateKeyPair', { KeyName: '010' });
  const imported = await api.ask('ImportKeyPair', {
    KeyName: 'mine',
    PublicKeyMaterial: Buffer.from(own).toString('base64'),
  });
  const plain = await api.ask('ImportPublicKey', { KeyName: 'plain', PublicKey: own });

  assert.match(made.xml.keyMaterial, /^-----BEGIN RSA PRIVATE KEY-----\n[\s\S]*-----END RSA PRIVATE KEY-----/);
  assert.match(made.xml.keyFingerprint, /^([0-9a-f]{2}:){15}[0-9a-f]{2}$/);
  assert.equal(plain.xml.return, 'true');
  assert.equal((await api.ask('CreateKeyPair', { KeyName: '010' })).code, 'InvalidKeyPair.Duplicate');
  assert.equal(
    (await api.ask('ImportKeyPair', { KeyName: 'x', PublicKeyMaterial: 'bm8ga2V5' })).code,
    'InvalidParameterValue',
  );
  const listed = (await api.ask('DescribeKeyPairs')).xml.keySet as { keyName: string; keyFingerprint: string }[];
  assert.deepEqual(
    listed.map(({ keyName, keyFingerprint }) => [keyName, keyFingerprint]),
    [
      ['010', made.xml.keyFingerprint],
      ['mine', imported.xml.keyFingerprint],
      ['plain', imported.xml.keyFingerprint],
    ],
  );
  for (const name of ['010', 'never there']) {
    assert.equal((await api.ask('DeleteKeyPair', { KeyName: name })).xml.return, 'true');
  }
  for (const asked of [{ 'KeyName.1': 'mine', 'KeyName.2': 'nokey' }, { 'KeyPairId.1': 'key-000000ff' }] as Record<
    string,
    string
  >[])
    assert.equal((await api.ask('DescribeKeyPairs', asked)).code, 'InvalidKeyPair.NotFound');
  assert.equal((await api.ask('DeleteKeyPair', { KeyPairId: imported.xml.keyPairId })).xml.return, 'true');
  assert.deepEqual(
    (await api.ask('DescribeKeyPairs')).xml.keySet.map(({ keyName }: { keyName: string }) => keyName),
    ['plain'],
  );
});

test('key pairs of VPN instances are shown to administrators only', async (t) => {
  const api = await anEc2Api(t);
  await aMember(api.db, 'root', ['cloudadmin']);
  const pair = { name: 'apollo-vpn', fingerprint: 'aa:bb', public_key: 'ssh-rsa AAAA', created_at: nowText() };
  for (const user_id of ['ann', 'root'])
    await api.db
      .insertInto('key_pairs')
      .values({ ...pair, user_id })
      .execute();

  assert.equal((await api.ask('DescribeKeyPairs')).xml.keySet, '');
  assert.equal((await api.ask('DescribeKeyPairs', {}, 'root')).xml.keySet.length, 1);
});
