import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { InstanceFacts } from '../../../../src/common/db/metadata_lookup.ts';
import { metadataTree } from '../../../../src/api/metadata/tree.ts';
import { splitPath, walk } from '../../../../src/api/metadata/walk.ts';

const facts = (over: Partial<InstanceFacts> = {}): InstanceFacts => ({
  id: 42,
  project_id: 'apollo',
  image_id: 7,
  kernel_id: null,
  ramdisk_id: null,
  instance_type: 'm1.tiny',
  launch_index: 0,
  reservation_id: 'r-abcdefgh',
  hostname: 'web',
  key_name: 'mine',
  key_data: 'ssh-rsa AAAA mine',
  user_data: null,
  availability_zone: 'nova',
  security_groups: ['default', 'web'],
  local_ipv4: '10.0.0.2',
  public_ipv4: null,
  http_tokens: null,
  http_endpoint: null,
  ...over,
});
const get = (path: string, over: Partial<InstanceFacts> = {}) => walk(metadataTree(facts(over)), splitPath(path));

test('the listing of meta-data shows folders with a slash, leaves without, and ends without a line feed', () => {
  assert.equal(
    get('meta-data'),
    'ami-id\nami-launch-index\nami-manifest-path\nblock-device-mapping/\nhostname\ninstance-action\ninstance-id\n' +
      'instance-type\nlocal-hostname\nlocal-ipv4\nmpi/\nplacement/\npublic-hostname\npublic-ipv4\npublic-keys/\n' +
      'reservation-id\nsecurity-groups',
  );
  for (const path of ['meta-data/', '//meta-data', 'meta-data///']) assert.equal(get(path), get('meta-data'));
});

test('every leaf has its value, and what follows a leaf is ignored', () => {
  const values: Record<string, string> = {
    'ami-id': 'ami-00000007',
    'ami-launch-index': '0',
    'block-device-mapping/ami': 'sda1',
    'block-device-mapping/root': '/dev/sda1',
    hostname: 'web',
    'instance-action': 'none',
    'instance-id': 'i-0000002a',
    'instance-type': 'm1.tiny',
    'local-ipv4': '10.0.0.2',
    'placement/availability-zone': 'nova',
    'public-ipv4': '',
    'public-keys': '0=mine',
    'public-keys/0': 'openssh-key',
    'public-keys/0/openssh-key': 'ssh-rsa AAAA mine',
    'reservation-id': 'r-abcdefgh',
    'security-groups': 'default\nweb',
    'ami-id/foo': 'ami-00000007',
  };
  for (const [path, value] of Object.entries(values)) assert.equal(get(`meta-data/${path}`), value, path);
});

test('what an instance does not have is not there', () => {
  const bare = { key_name: null, key_data: null };
  for (const path of ['user-data', 'meta-data/kernel-id', 'meta-data/nope', 'meta-data/public-keys/0/_name', 'x'])
    assert.equal(get(path), undefined, path);
  assert.equal(get('meta-data/public-keys', bare), undefined);
  assert.equal(get('', bare), 'meta-data/');
  for (const path of ['__proto__', 'constructor', 'meta-data/toString', 'meta-data/mpi/__proto__'])
    assert.equal(get(path), undefined, path);
});

test('kernel and ramdisk show under their own prefixes', () => {
  const booted = { kernel_id: 8, ramdisk_id: 9 };
  assert.equal(get('meta-data/kernel-id', booted), 'aki-00000008');
  assert.equal(get('meta-data/ramdisk-id', booted), 'ari-00000009');
});

test('user data comes back byte for byte', () => {
  const bytes = Buffer.from([0, 255, 1, 254, 10, 13, 0]);
  assert.deepEqual(get('user-data', { user_data: bytes.toString('base64') }), bytes);
});

test('mpi has one machine file a key pair', () => {
  const tree = metadataTree(facts(), [
    { key_name: 'mine', address: '10.0.0.2', vcpus: 1 },
    { key_name: null, address: '10.0.0.3', vcpus: 2 },
    { key_name: 'mine', address: '10.0.0.4', vcpus: 4 },
  ]);
  assert.equal(walk(tree, ['meta-data', 'mpi']), 'mine\nNone');
  assert.equal(walk(tree, ['meta-data', 'mpi', 'mine']), '10.0.0.2 slots=1\n10.0.0.4 slots=4');
});

test('mpi leaves out a key pair whose name no path can end with; its guest has it all the same', () => {
  const names = ['ann/laptop', 'ann/', '1=x', 'a=b', '..', '.', 'a\u2028b', 'a\u0085b', '100% mine?', '.ssh'];
  const hosts = names.map((key_name, i) => ({ key_name, address: `10.0.0.${i}`, vcpus: 1 }));
  const tree = metadataTree(facts(), hosts);

  assert.equal(walk(tree, ['meta-data', 'mpi']), '100% mine?\n.ssh');
  assert.equal(walk(tree, ['meta-data', 'mpi', '.ssh']), '10.0.0.9 slots=1');
  for (const key_name of names)
    assert.equal(get('meta-data/public-keys/0/openssh-key', { key_name }), 'ssh-rsa AAAA mine', key_name);
});

test('the label of a public key is on one line and does not end as a folder does', () => {
  const labels: Record<string, string> = {
    'ann/laptop': '0=ann/laptop',
    '1=x': '0=1=x',
    'ann/': '0=ann%2F',
    '//': '0=/%2F',
    'a\u2028b': '0=a%E2%80%A8b',
  };
  for (const [key_name, label] of Object.entries(labels))
    assert.equal(get('meta-data/public-keys', { key_name }), label);
});
