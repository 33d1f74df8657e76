import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareStore, type StoreFacts } from '../../../../src/volume/doctor/compare.ts';

const aStore = (over: Partial<StoreFacts['store']>): StoreFacts['store'] => ({
  volumes: [],
  snapshots: [],
  exports: [],
  half_made: { volumes: [], snapshots: [] },
  ...over,
});
const facts = (over: Partial<StoreFacts> = {}): StoreFacts => ({
  host: 'store1',
  volumes: [],
  snapshots: [],
  attachments: [],
  targets: [],
  store: aStore({}),
  deleted: { volumes: [], snapshots: [] },
  ...over,
});
const a = { id: 1, name: 'volume-00000001', status: 'available' };
const held = { ...a, status: 'in-use' };
const attachment = { id: 5, volume_id: 1, instance: 'i-00000007', instance_gone: false, status: 'attached' };
const told = ({ store = {}, ...over }: Partial<Omit<StoreFacts, 'store'> & { store: Partial<StoreFacts['store']> }>) =>
  compareStore(facts({ ...over, store: aStore(store) })).map(({ what, found, repair, mend }) => [
    what,
    found,
    repair,
    mend?.do,
  ]);

test('a store that is as the rows say differs in nothing', () => {
  const store = { volumes: ['volume-00000001'], snapshots: ['snapshot-00000002'], exports: ['volume-00000001'] };
  const snapshots = [{ id: 2, name: 'snapshot-00000002', status: 'available' }];
  const targets = [{ target_num: 1, volume_id: 1 }];
  assert.deepEqual(told({ volumes: [held], snapshots, attachments: [attachment], targets, store }), []);
});

test('what is being made, taken away or attached now is no difference', () => {
  for (const status of ['creating', 'deleting', 'error', 'error_deleting']) {
    assert.deepEqual(told({ volumes: [{ ...a, status }] }), []);
    assert.deepEqual(
      told({ volumes: [{ ...a, status }], store: { volumes: [a.name], snapshots: [], exports: [] } }),
      [],
    );
  }
  for (const status of ['attaching', 'detaching']) {
    const volumes = [{ ...a, status }];
    const store = { volumes: [a.name], snapshots: [], exports: [] };
    const attachments = [{ ...attachment, status }];
    assert.deepEqual(told({ volumes, attachments, store }), []);
    assert.deepEqual(told({ volumes, attachments, store: { ...store, exports: [a.name] } }), []);
  }
});

test('bytes that are gone are told, bytes that were to go are deleted, bytes of nobody are left alone', () => {
  assert.deepEqual(told({ volumes: [a] }), [['volume-00000001', 'none', null, undefined]]);
  const store = { volumes: ['volume-00000001', 'volume-00000009'], snapshots: ['snapshot-00000003'], exports: [] };
  const deleted = { volumes: [{ id: 1, name: 'volume-00000001' }], snapshots: [{ id: 3, name: 'snapshot-00000003' }] };
  assert.deepEqual(told({ store, deleted }), [
    ['snapshot-00000003', 'its bytes are left', 'deletes them', 'delete bytes'],
    ['volume-00000001', 'its bytes are left', 'deletes them', 'delete bytes'],
    ['volume-00000009', 'bytes that no row ever named', null, undefined],
  ]);
});

test('what is half made is as if it were not there, and of a deleted row is deleted', () => {
  const store = { half_made: { volumes: [a.name], snapshots: ['snapshot-00000003'] } };
  assert.deepEqual(
    told({ volumes: [{ ...a, status: 'creating' }], store: { half_made: { ...store.half_made, snapshots: [] } } }),
    [],
  );
  const deleted = { volumes: [{ id: 1, name: a.name }], snapshots: [{ id: 3, name: 'snapshot-00000003' }] };
  assert.deepEqual(told({ store, deleted }), [
    ['snapshot-00000003', 'its bytes are left', 'deletes them', 'delete bytes'],
    ['volume-00000001', 'its bytes are left', 'deletes them', 'delete bytes'],
  ]);
  assert.deepEqual(
    told({ volumes: [a], store: { half_made: { ...store.half_made, snapshots: [] } } }).map(([, found]) => found),
    ['none'],
  );
});

test('an export is open to an attachment and to nobody else', () => {
  const store = { volumes: [a.name], snapshots: [], exports: [a.name] };
  assert.deepEqual(told({ volumes: [a], store }), [
    ['export of volume-00000001', 'open', 'closes it', 'refresh export'],
  ]);
  assert.deepEqual(told({ volumes: [held], attachments: [attachment], store: { ...store, exports: [] } }), [
    ['export of volume-00000001', 'none', 'opens it', 'refresh export'],
  ]);
  assert.deepEqual(
    told({ volumes: [a], store: { ...store, exports: [] }, targets: [{ target_num: 4, volume_id: 1 }] }),
    [['iSCSI target number 4', 'kept for volume 1, which nothing has', 'frees it', 'refresh export']],
  );
  assert.deepEqual(told({ store: { volumes: [], snapshots: [], exports: ['volume-00000009'] } }), [
    ['export of volume-00000009', 'one that no row ever named', null, undefined],
  ]);
});

test('an attachment to an instance that is gone is void, and a volume that nothing has is available', () => {
  const store = { volumes: [a.name], snapshots: [], exports: [] };
  assert.deepEqual(told({ volumes: [held], attachments: [{ ...attachment, instance_gone: true }], store }), [
    ['volume-00000001', 'attached at i-00000007, which is gone', 'ends the attachment', 'end attachment'],
  ]);
  assert.deepEqual(told({ volumes: [held], store }), [
    ['volume-00000001', 'in-use', 'makes it available', 'free volume'],
  ]);
  const attaching = { ...attachment, status: 'attaching' };
  assert.deepEqual(told({ volumes: [a], attachments: [attaching], store }), [
    ['volume-00000001', 'available', 'makes it attaching', 'hold volume'],
  ]);
  assert.deepEqual(told({ volumes: [a], attachments: [attachment], store: { ...store, exports: [a.name] } }), [
    ['volume-00000001', 'available', 'makes it in-use', 'hold volume'],
  ]);
});
