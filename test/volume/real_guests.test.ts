import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { execute } from '../../src/common/execute.ts';
import { REAL_CLOUD_NEEDS, type RealGuest } from '../network/real_cloud.ts';
import { needs } from '../rigs/needs.ts';
import { tempDir, type Scope } from '../rigs/tmp.ts';
import { qemuIo } from './a_store.ts';
import { clients, lacksClients } from './clients.ts';
import { aRealStore, connectionOf, FIND, nameOf } from './real_store.ts';

const skip = needs(...REAL_CLOUD_NEEDS, 'tgtd', 'qemu-io', 'mke2fs', 'e2fsck') || lacksClients();

/** One cloud for all, since its guests take long to boot; each part leaves no volume behind. */
test('volumes of real guests on two hosts, by the clients that Debian ships', { skip, timeout: 900_000 }, async (t) => {
  const cloud = await aRealStore(t);
  const { aws, boto } = clients(t, cloud.ann);
  const [one, two] = await Promise.all([cloud.launch(cloud.ann, cloud.node1), cloud.launch(cloud.ann, cloud.node2)]);
  const create = async (...words: string[]): Promise<string> => {
    const id = await aws('create-volume', '--availability-zone', 'nova', '--query', 'VolumeId', ...words);
    await cloud.becomes(id, 'available');
    return id;
  };
  const attach = async (id: string, guest: RealGuest, device = '/dev/vdc') => {
    await aws('attach-volume', '--volume-id', id, '--instance-id', guest.ec2_id, '--device', device);
    await cloud.attached(id);
  };
  const detach = async (id: string) => {
    await aws('detach-volume', '--volume-id', id);
    await cloud.becomes(id, 'available');
  };
  const remove = async (id: string) => {
    await aws('delete-volume', '--volume-id', id);
    await cloud.becomes(id, 'gone');
  };

  await t.test('one guest partitions, formats and writes; another on another host reads the same bytes', async () => {
    const id = await create('--size', '1');
    assert.match(id, /^vol-[0-9a-f]{8}$/);
    await aws('wait', 'volume-available', '--volume-ids', id);
    await attach(id, one);
    await aws('wait', 'volume-in-use', '--volume-ids', id);
    const devices = 'Reservations[].Instances[].BlockDeviceMappings[].[DeviceName,Ebs.VolumeId,Ebs.Status]';
    assert.equal(
      await aws('describe-instances', '--instance-ids', one.ec2_id, '--query', devices),
      `/dev/vdc\t${id}\tattached`,
    );
    const wrote = await cloud.runs(
      one,
      `${FIND(id)}
printf 'n\\np\\n1\\n\\n\\nw\\n' | fdisk $disk >/dev/null 2>&1
mke2fs \${disk}1 >/dev/null 2>&1
mount -t ext4 \${disk}1 /mnt && dd if=/dev/urandom of=/mnt/bytes bs=64k count=64 2>/dev/null
sum=$(sha256sum </mnt/bytes | cut -c 1-64)
umount /mnt && echo "TINY: wrote $sum"`,
      /TINY: wrote ([0-9a-f]{64})/,
    );
    await assert.rejects(
      qemuIo(t, { ...(await connectionOf(cloud, id)), auth_password: 'wrongwrong12' }, 'read 0 512'),
      /[Aa]uthentication|[Ll]ogin/,
      'nobody reads along without its secret',
    );

    await boto(`
v = volume('${id}')
assert (v.status, v.attach_data.instance_id, v.attach_data.device) == ('in-use', '${one.ec2_id}', '/dev/vdc')
v.detach()
until('available', lambda: volume('${id}').status == 'available')
assert volume('${id}').attach_data.id is None
ec2.attach_volume('${id}', '${two.ec2_id}', '/dev/sdf')
until('attached', lambda: volume('${id}').attachment_state() == 'attached')
`);
    const read = await cloud.runs(
      two,
      `${FIND(id)}
mount -t ext4 -o ro \${disk}1 /mnt
echo "TINY: read $(sha256sum </mnt/bytes | cut -c 1-64)"; umount /mnt`,
      /TINY: read ([0-9a-f]{64})/,
    );
    assert.equal(read, wrote, 'the same bytes');
    await cloud.runs(one, `grep -l ${id} /sys/block/vd*/serial; echo "TINY: looked"`, /TINY: looked/);
    assert.doesNotMatch(await cloud.console(cloud.ann, one), /vd.\/serial/, 'the first guest has it no more');

    await detach(id);
    await remove(id);
    await aws('wait', 'volume-deleted', '--volume-ids', id);
    assert.deepEqual(await cloud.left(), [], 'no file and no export');
  });

  await t.test('a snapshot of a volume that is written to mounts cleanly after its journal was replayed', async () => {
    const id = await create('--size', '1');
    await attach(id, one);
    await one.sh(`cat >/tmp/fs <<'END'\n${await aJournaledFileSystem(t)}\nEND`);
    await cloud.runs(
      one,
      `${FIND(id)}
base64 -d /tmp/fs | gunzip | dd of=$disk bs=64k 2>/dev/null
mount -t ext4 $disk /mnt && echo kept >/mnt/kept && sync && echo "TINY: writing"
n=0; while [ ! -e /tmp/stop ]; do n=$((n + 1)); echo $n >/mnt/$((n % 500)); done
umount /mnt && echo "TINY: stopped"`,
      /TINY: writing/,
    );
    const snapshot = await aws('create-snapshot', '--volume-id', id, '--description', 'live', '--query', 'SnapshotId');
    await boto(`
until('completed', lambda: ec2.get_all_snapshots(['${snapshot}'])[0].status == 'completed')
s = ec2.get_all_snapshots(owner='self')[0]
assert (s.volume_id, s.progress, s.volume_size, s.description) == ('${id}', '100%', 1, 'live'), vars(s)
`);
    assert.equal((await cloud.volume(id))?.status, 'in-use', 'it was attached all the while');
    const copy = await create('--snapshot-id', snapshot);
    await attach(copy, two);
    await cloud.runs(
      two,
      `${FIND(copy)}
mount -t ext4 $disk /mnt && kept=$(cat /mnt/kept) && echo "TINY: files $(ls /mnt | wc -l)" && umount /mnt
dmesg | grep -q 'recovery complete' && echo "TINY: replayed $kept"`,
      /TINY: replayed kept/,
    );
    await detach(copy);
    const checked = await execute(['e2fsck', '-fn', join(cloud.node1.dir, 'volumes', nameOf(copy))], { ok: [0, 4] });
    assert.equal(checked.exit_code, 0, checked.stdout);

    await cloud.runs(one, 'touch /tmp/stop', /TINY: stopped/);
    await detach(id);
    await aws('delete-snapshot', '--snapshot-id', snapshot);
    await boto(`until('gone', lambda: ec2.get_all_snapshots() == [])`);
    for (const volume of [id, copy]) await remove(volume);
    assert.deepEqual(await cloud.left(), []);
  });

  await t.test('a guest boots from a volume; what goes with it goes, what is to stay stays', async () => {
    const id = await create('--size', '1');
    await attach(id, two);
    await cloud.runs(
      two,
      `${FIND(id)}
dd if=/dev/vda of=$disk bs=64k 2>/dev/null
mount -t ext4 $disk /mnt && echo 'echo "TINY: booted from the volume"' >>/mnt/etc/tiny/boot && umount /mnt && echo "TINY: root made"`,
      /TINY: root made/,
    );
    await detach(id);
    const snapshot = await aws('create-snapshot', '--volume-id', id, '--query', 'SnapshotId');
    await boto(`until('completed', lambda: ec2.get_all_snapshots(['${snapshot}'])[0].status == 'completed')`);
    const launched = await boto(`
from boto.ec2.blockdevicemapping import BlockDeviceMapping, BlockDeviceType
m = BlockDeviceMapping()
m['/dev/sda1'] = BlockDeviceType(snapshot_id='${snapshot}', delete_on_termination=True)
m['/dev/vdc'] = BlockDeviceType(size=1, delete_on_termination=False)
i = ec2.run_instances('${cloud.image}', instance_type='m1.nano', block_device_map=m).instances[0]
def running():
    i.update()
    assert i.state in ('pending', 'running'), i.state_reason
    return i.state == 'running'
until('running', running)
assert i.root_device_type == 'ebs', i.root_device_type
print(i.id, i.block_device_mapping['/dev/sda1'].volume_id, i.block_device_mapping['/dev/vdc'].volume_id)
`);
    const [guest = '', root = '', data = ''] = launched.split(' ');
    await cloud.consoleSays({ ec2_id: guest }, /TINY: (booted) from the volume/);
    await cloud.attached(data);
    await aws('terminate-instances', '--instance-ids', guest);
    await cloud.becomes(root, 'gone');
    await cloud.becomes(data, 'available');

    await aws('delete-snapshot', '--snapshot-id', snapshot);
    await boto(`until('gone', lambda: ec2.get_all_snapshots() == [])`);
    for (const volume of [id, data]) await remove(volume);
    assert.deepEqual(await cloud.left(), []);
  });

  await t.test('a volume is free again when its guest ends; one that no host has room for says why', async () => {
    const id = await create('--size', '1');
    await attach(id, two);
    await cloud.terminate(cloud.ann, one, two);
    await cloud.becomes(id, 'available');
    await remove(id);

    await cloud.manage('project', 'quota', 'apollo', 'gigabytes', '1000000');
    const large = await aws('create-volume', '--availability-zone', 'nova', '--size', '900000', '--query', 'VolumeId');
    await cloud.becomes(large, 'error');
    assert.match((await cloud.volume(large))?.fault ?? '', /node1.*900000 GiB|900000 GiB.*node1/s);
    await remove(large);
    assert.deepEqual(await cloud.left(), [], 'nothing is left of any of it');
    const targets = await cloud.db.selectFrom('iscsi_targets').selectAll().execute();
    assert.deepEqual(targets, []);
    assert.equal(await cloud.manage('volume', 'doctor'), 'nothing differs\n');
  });

  const secrets = await cloud.db.selectFrom('volume_attachments').select('auth_password').execute();
  assert.ok(secrets.length >= 6);
  for (const [name, daemon] of cloud.daemons)
    for (const { auth_password } of secrets)
      assert.ok(!readFileSync(daemon.log_file, 'utf8').includes(auth_password), `a secret is in the log of ${name}`);
});

/** ext4 with a journal, which the guest's own mke2fs cannot make: gzip in base64, in lines. */
async function aJournaledFileSystem(t: Scope): Promise<string> {
  const file = join(tempDir(t, 'ext4'), 'fs');
  await execute(['mke2fs', '-q', '-F', '-t', 'ext4', '-b', '1024', '-J', 'size=4', file, '24M']);
  return gzipSync(readFileSync(file), { level: 9 })
    .toString('base64')
    .replace(/(.{76})/g, '$1\n');
}
