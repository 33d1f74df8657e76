import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { DbTokens } from '../../../../src/common/auth/tokens.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { anInstance, aVolumeHost } from '../../../builders.ts';
import { needs } from '../../../rigs/needs.ts';
import { anApi } from './an_api.ts';
import { clientsOf } from './clients.ts';

/** A cloud with a nova-volume and a server `server`; what daemons would do, the test does by `now`. */
async function aCloud(t: TestContext, flags: Record<string, unknown> = {}) {
  const api = await anApi(t, flags);
  await aVolumeHost(api.db);
  const server = await anInstance(api.db, { image_id: api.image });
  const now = {
    volume: (id: number, status: string) =>
      api.db.updateTable('volumes').set({ status, host: 'store1' }).where('id', '=', id).execute(),
    attachment: (set: { status: string; deleted?: number }) =>
      api.db.updateTable('volume_attachments').set(set).where('deleted', '=', 0).execute(),
    snapshot: (id: number, status: string) =>
      api.db.updateTable('snapshots').set({ status }).where('id', '=', id).execute(),
  };
  return { ...api, server, now };
}

test('a volume as Diablo has it: made, listed, attached, detached, deleted', async (t) => {
  const { ask, server, now } = await aCloud(t);
  const made = await ask('POST', '/os-volumes', {
    volume: { size: '2', display_name: 'data', display_description: 'of web', metadata: { tier: 'one' } },
  });
  assert.equal(made.status, 200, JSON.stringify(made.json));
  const { createdAt, ...volume } = made.json.volume;
  assert.match(createdAt, /^\d{4}-.*Z$/);
  assert.deepEqual(volume, {
    id: 1,
    status: 'creating',
    size: 2,
    availabilityZone: 'nova',
    attachments: [{}],
    displayName: 'data',
    displayDescription: 'of web',
    volumeType: null,
    snapshotId: null,
    metadata: { tier: 'one' },
  });
  await now.volume(1, 'available');

  const path = `/servers/${server}/os-volume_attachments`;
  const attachment = { id: 1, volumeId: 1, serverId: server, device: '/dev/vdc' };
  const attached = await ask('POST', path, { volumeAttachment: { volumeId: 1, device: '/dev/vdc' } });
  assert.deepEqual([attached.status, attached.json], [200, { volumeAttachment: attachment }]);
  await now.attachment({ status: 'attached' });
  await now.volume(1, 'in-use');
  assert.deepEqual((await ask('GET', path)).json, { volumeAttachments: [attachment] });
  assert.deepEqual((await ask('GET', `${path}/1`)).json, { volumeAttachment: attachment });
  assert.equal((await ask('GET', `${path}/2`)).status, 404);
  assert.equal((await ask('PUT', `${path}/1`, {})).status, 400);
  for (const detail of ['', '/detail'])
    assert.deepEqual((await ask('GET', `/os-volumes${detail}`)).json.volumes[0].attachments, [attachment]);

  assert.equal((await ask('DELETE', `${path}/1`)).status, 202);
  await now.attachment({ status: 'detaching', deleted: 1 });
  await now.volume(1, 'available');
  assert.equal((await ask('DELETE', '/os-volumes/1')).status, 202);
  assert.equal((await ask('GET', '/os-volumes/1')).json.volume.status, 'deleting');
  await t.test('an attachment of another server is not there', async () => {
    assert.equal((await ask('GET', '/servers/77/os-volume_attachments')).status, 404);
  });
});

test('a device is chosen for who names none', async (t) => {
  const { ask, server, now } = await aCloud(t);
  await ask('POST', '/os-volumes', { volume: { size: 1 } });
  await now.volume(1, 'available');
  const attached = await ask('POST', `/servers/${server}/os-volume_attachments`, { volumeAttachment: { volumeId: '1', device: null } }); // prettier-ignore
  assert.equal(attached.json.volumeAttachment.device, '/dev/vdb');
});

test('snapshots are taken, listed, made into volumes and deleted; of a volume in use only by force', async (t) => {
  const { ask, server, now } = await aCloud(t);
  await ask('POST', '/os-volumes', { volume: { size: 1 } });
  await now.volume(1, 'available');
  const made = await ask('POST', '/os-snapshots', { snapshot: { volume_id: 1, display_name: 'monday' } });
  assert.deepEqual([made.status, made.json.snapshot.status, made.json.snapshot.size], [200, 'creating', 1]);
  assert.equal((await ask('GET', '/os-snapshots/1')).json.snapshot.displayName, 'monday');
  assert.equal((await ask('GET', '/os-snapshots')).json.snapshots.length, 1);
  await now.snapshot(1, 'available');
  assert.equal((await ask('POST', '/os-volumes', { volume: { snapshot_id: 1 } })).json.volume.size, 1);
  await now.volume(2, 'available');
  assert.equal((await ask('DELETE', '/os-snapshots/1')).status, 202);

  await ask('POST', `/servers/${server}/os-volume_attachments`, { volumeAttachment: { volumeId: 1 } });
  await now.volume(1, 'in-use');
  const refused = await ask('POST', '/os-snapshots', { snapshot: { volume_id: 1 } });
  assert.deepEqual([refused.status, refused.json.inProgress.message], [409, 'volume 1 is in-use; a snapshot is taken of an available volume, or with force of one in use']); // prettier-ignore
  assert.equal((await ask('POST', '/os-snapshots', { snapshot: { volume_id: 1, force: 'True' } })).status, 200);
});

test('a server boots from a volume, in the words of Diablo and of today', async (t) => {
  const { ask, now } = await aCloud(t);
  await ask('POST', '/os-volumes', { volume: { size: 1 } });
  await now.volume(1, 'available');
  await ask('POST', '/os-snapshots', { snapshot: { volume_id: 1 } });
  await now.snapshot(1, 'available');
  const server = { name: 'web', imageRef: '', flavorRef: '1' };
  const boots = async (path: string, more: Record<string, unknown>) => {
    const made = await ask('POST', path, { server: { ...server, ...more } });
    assert.equal(made.status, 202, JSON.stringify(made.json));
    assert.equal(made.json.server.image, '', 'it has no image');
    const { volumeAttachments } = (await ask('GET', `/servers/${made.json.server.id}/os-volume_attachments`)).json;
    return volumeAttachments.map((one: { volumeId: number; device: string }) => [one.volumeId, one.device]);
  };
  const mapping = { device_name: 'vda', snapshot_id: '1', volume_id: '', volume_size: '', delete_on_termination: '1' };
  assert.deepEqual(await boots('/os-volumes_boot', { block_device_mapping: [mapping] }), [[2, '/dev/vda']]);
  const v2 = [
    { source_type: 'volume', destination_type: 'volume', uuid: '1', boot_index: '0' },
    { source_type: 'blank', destination_type: 'volume', volume_size: 1, boot_index: -1, device_name: '/dev/vdc' },
  ];
  assert.deepEqual(await boots('/servers', { block_device_mapping_v2: v2 }), [
    [1, '/dev/vda'],
    [3, '/dev/vdc'],
  ]);
  const refused = await ask('POST', '/servers', { server });
  assert.equal(refused.status, 400, 'neither image nor volume');
  const image = [{ source_type: 'image', destination_type: 'volume', uuid: '1', boot_index: 0 }];
  assert.match(JSON.stringify((await ask('POST', '/servers', { server: { ...server, block_device_mapping_v2: image } })).json), /from image to volume is not offered/); // prettier-ignore
});

test('types of volumes are made by administrators and seen by all', async (t) => {
  const { ask, db, raw } = await aCloud(t);
  const tokens = new DbTokens({ db, flags: Flags.of({}) });
  assert.equal((await ask('POST', '/os-volume-types', { volume_type: { name: 'fast' } })).status, 403);
  await db.insertInto('users').values({ id: 'root', name: 'root', access_key: 'root-access', secret_key: 's', is_admin: 1, created_at: '2011-01-01T00:00:00.000Z' }).execute(); // prettier-ignore
  const { token } = await tokens.issue('root', 'root-access', 'apollo');
  const admin = (method: string, path: string, body?: unknown) =>
    raw(`/v1.1${path}`, { method, headers: { 'x-auth-token': token, 'content-type': 'application/json' }, ...(body ? { body: JSON.stringify(body) } : {}) }); // prettier-ignore
  const made = await admin('POST', '/os-volume-types', {
    volume_type: { name: 'fast', extra_specs: { media: 'ssd' } },
  });
  assert.deepEqual([made.status, made.json], [200, { volume_type: { id: 1, name: 'fast', extra_specs: { media: 'ssd' } } }]); // prettier-ignore
  assert.deepEqual((await ask('GET', '/os-volume-types')).json, { fast: { id: 1, name: 'fast', extra_specs: { media: 'ssd' } } }); // prettier-ignore
  const specs = '/os-volume-types/1/extra_specs';
  assert.equal((await admin('POST', specs, { extra_specs: { rpm: '0' } })).status, 200);
  assert.equal((await admin('PUT', `${specs}/rpm`, { rpm: '7200' })).status, 200);
  assert.equal((await admin('PUT', `${specs}/rpm`, { other: '7200' })).status, 400);
  assert.deepEqual((await ask('GET', specs)).json, { extra_specs: { media: 'ssd', rpm: '7200' } });
  assert.equal((await admin('DELETE', `${specs}/media`)).status, 202);
  assert.equal((await admin('DELETE', `${specs}/media`)).status, 404);
  assert.deepEqual((await ask('GET', `${specs}/rpm`)).json, { rpm: '7200' });
  assert.equal((await ask('POST', '/os-volumes', { volume: { size: 1, volume_type: 'fast' } })).json.volume.volumeType, 'fast'); // prettier-ignore
  assert.equal((await ask('POST', '/os-volumes', { volume: { size: 1, volume_type: '1' } })).json.volume.volumeType, 'fast'); // prettier-ignore
  await admin('POST', '/os-volume-types', { volume_type: { name: '1' } });
  assert.equal((await ask('POST', '/os-volumes', { volume: { size: 1, volume_type: '1' } })).json.volume.volumeType, '1'); // prettier-ignore
  assert.equal((await admin('DELETE', '/os-volume-types/1')).status, 202);
  assert.equal((await ask('GET', '/os-volume-types/1')).status, 404);
});

test('what cannot be is a clear fault, and quotas are told', async (t) => {
  const { ask, server, now, db } = await aCloud(t, { quota_volumes: 1, quota_gigabytes: 5 });
  const fault = async (status: number, words: RegExp, method: string, path: string, body?: unknown) => {
    const answer = await ask(method, path, body);
    assert.equal(answer.status, status, JSON.stringify(answer.json));
    assert.match(JSON.stringify(answer.json), words);
  };
  await fault(400, /volume.size: is less than 1/, 'POST', '/os-volumes', { volume: { size: 0 } });
  for (const size of [true, [1], ' 1 ', '0x1', 1.5])
    await fault(400, /volume.size: is not a whole number/, 'POST', '/os-volumes', { volume: { size } });
  await fault(413, /uses 0 of 5 GiB, 6 more/, 'POST', '/os-volumes', { volume: { size: 6 } });
  for (const what of ['imageRef', 'source_volid'])
    await fault(400, /is not offered; leave it out/, 'POST', '/os-volumes', { volume: { size: 1, [what]: '1' } });
  const cinder = '/../volume/v3/apollo/volumes';
  await fault(400, /volume.multiattach: is not offered/, 'POST', cinder, { volume: { size: 1, multiattach: true } });
  for (const what of ['group_id', 'source_replica', 'backup_id'])
    await fault(400, RegExp(`volume.${what}: is not offered`), 'POST', cinder, { volume: { size: 1, [what]: '1' } });
  for (const name of ['OS-SCH-HNT:scheduler_hints', 'os:scheduler_hints'])
    for (const path of ['/os-volumes', cinder]) {
      const hinted = (hints: object) => ({ volume: { size: 6 }, [name]: hints });
      await fault(400, RegExp(`${name}: is not offered`), 'POST', path, hinted({ different_host: '1' }));
      await fault(413, /uses 0 of 5 GiB/, 'POST', path, hinted({}));
    }
  const labelled = { snapshot: { volume_id: 1, metadata: { day: 'monday' } } };
  await fault(400, /snapshot.metadata: is not offered/, 'POST', '/../volume/v3/apollo/snapshots', labelled);
  await fault(413, /uses 0 of 5 GiB/, 'POST', cinder, { volume: { size: 6, multiattach: false, imageRef: null } });
  await fault(400, /no volume type gold/, 'POST', '/os-volumes', { volume: { size: 1, volume_type: 'gold' } });
  await ask('POST', '/os-volumes', { volume: { size: 1 } });
  await fault(413, /has 1 volumes and may have 1/, 'POST', '/os-volumes', { volume: { size: 1 } });
  const { absolute } = (await ask('GET', '/limits')).json.limits;
  assert.deepEqual(
    [
      absolute.maxTotalVolumes,
      absolute.maxTotalVolumeGigabytes,
      absolute.totalVolumesUsed,
      absolute.totalGigabytesUsed,
    ],
    [1, 5, 1, 1],
  );
  const path = `/servers/${server}/os-volume_attachments`;
  await fault(409, /creating; only an available volume/, 'POST', path, { volumeAttachment: { volumeId: 1 } });
  await now.volume(1, 'available');
  await fault(400, /names no device/, 'POST', path, { volumeAttachment: { volumeId: 1, device: 'nowhere' } });
  await fault(404, /no volume 77"/, 'POST', path, { volumeAttachment: { volumeId: 77 } });
  await fault(404, /no volume 99"/, 'POST', '/os-snapshots', { snapshot: { volume_id: 99 } });
  await fault(404, /no volume nonsense/, 'GET', '/os-volumes/nonsense');
  await db.updateTable('volumes').set({ project_id: 'borealis' }).execute();
  await fault(404, /no volume/, 'GET', '/os-volumes/1');
  await fault(404, /no volume/, 'DELETE', '/os-volumes/1');
  assert.deepEqual((await ask('GET', '/os-volumes')).json, { volumes: [] });
  const { extensions } = (await ask('GET', '/extensions')).json as { extensions: { alias: string }[] };
  for (const alias of ['os-volumes', 'os-volume-types']) assert.ok(extensions.some((one) => one.alias === alias));
});

test(
  'the openstack client of today makes, changes, attaches and deletes volumes and snapshots',
  { skip: needs('openstack') },
  async (t) => {
    const api = await aCloud(t);
    const { openstack, json } = clientsOf(api);

    const made = await json('volume', 'create', '--size', '1', '--property', 'tier=one', 'data');
    assert.deepEqual([made['id'], made['name'], made['status'], made['size']], ['1', 'data', 'creating', 1]);
    await openstack('volume', 'set', '--name', 'notes', '--description', 'of web', '--property', 'tier=two', '--property', 'by=ann', 'data'); // prettier-ignore
    await openstack('volume', 'unset', '--property', 'by', 'notes');
    const changed = await json('volume', 'show', 'notes');
    assert.deepEqual([changed['description'], changed['properties']], ['of web', { tier: 'two' }]);
    await openstack('volume', 'set', '--name', 'data', 'notes');
    await api.now.volume(1, 'available');
    await openstack('server', 'add', 'volume', 'web', 'data', '--device', '/dev/vdc');
    await api.now.attachment({ status: 'attached' });
    await api.now.volume(1, 'in-use');
    const [listed] = await json('volume', 'list');
    assert.deepEqual([listed?.['Name'], listed?.['Status']], ['data', 'in-use']);
    assert.match(JSON.stringify(listed?.['Attached to']), /"device": ?"\/dev\/vdc"/);
    assert.deepEqual((await json('server', 'show', 'web'))['volumes_attached'], [{ id: '1' }]);
    await openstack('volume', 'snapshot', 'create', '--volume', 'data', '--force', 'monday');
    assert.equal((await json('volume', 'snapshot', 'show', 'monday'))['volume_id'], '1');
    await api.now.snapshot(1, 'available');
    await openstack('server', 'remove', 'volume', 'web', 'data');
    await api.now.attachment({ status: 'detaching', deleted: 1 });
    await api.now.volume(1, 'available');
    await openstack('volume', 'snapshot', 'delete', 'monday');
    await api.db.updateTable('snapshots').set({ deleted: 1 }).execute();
    await openstack('volume', 'delete', 'data');
    assert.equal((await json('volume', 'show', '1'))['status'], 'deleting');
    await assert.rejects(openstack('volume', 'create', '--size', '2000', 'large'), { stderr: /2000 more asked for/ });
    assert.deepEqual(await json('volume', 'type', 'list'), []);
  },
);

test('name, description and metadata of a volume change, as Cinder has it', async (t) => {
  const api = await aCloud(t);
  const { id } = (await api.ask('POST', '/os-volumes', { volume: { size: 1, display_name: 'data' } })).json.volume;
  const cinder = (method: string, path: string, body?: unknown) =>
    api.ask(method, `/../volume/v3/apollo/volumes/${path}`, body);

  const renamed = await cinder('PUT', id, { volume: { name: 'notes' } });
  assert.deepEqual([renamed.status, renamed.json.volume.name], [200, 'notes']);
  assert.equal((await cinder('PUT', id, { volume: { description: 'of web' } })).json.volume.name, 'notes');
  assert.equal((await cinder('PUT', id, { volume: { name: 'x'.repeat(256) } })).status, 400);
  assert.deepEqual((await cinder('POST', `${id}/metadata`, { metadata: { a: '1', b: '2' } })).json.metadata, { a: '1', b: '2' }); // prettier-ignore
  assert.deepEqual((await cinder('PUT', `${id}/metadata/a`, { meta: { a: '3' } })).json, { meta: { a: '3' } });
  assert.equal((await cinder('PUT', `${id}/metadata/a`, { meta: { b: '3' } })).status, 400);
  assert.deepEqual((await cinder('GET', `${id}/metadata/a`)).json, { meta: { a: '3' } });
  assert.deepEqual((await cinder('GET', `${id}/metadata`)).json, { metadata: { a: '3', b: '2' } });
  assert.equal((await cinder('DELETE', `${id}/metadata/a`)).status, 200);
  assert.equal((await cinder('DELETE', `${id}/metadata/a`)).status, 404);
  assert.deepEqual((await cinder('PUT', `${id}/metadata`, { metadata: { c: '4' } })).json, { metadata: { c: '4' } });
  const { volume } = (await cinder('GET', id)).json;
  assert.deepEqual([volume.name, volume.description, volume.metadata], ['notes', 'of web', { c: '4' }]);
  await api.db.updateTable('volumes').set({ project_id: 'borealis' }).execute();
  assert.equal((await cinder('PUT', id, { volume: { name: 'mine' } })).status, 404);
});
