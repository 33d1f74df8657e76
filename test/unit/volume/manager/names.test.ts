import assert from 'node:assert/strict';
import { test } from 'node:test';
import { volumeById } from '../../../../src/common/db/volumes.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { StoreNames } from '../../../../src/volume/manager/names.ts';
import { aDatabase, aVolume } from '../../../builders.ts';

test('a row has one token all its life, and the same number of a database made anew has another', async (t) => {
  const db = await aDatabase(t);
  const row = await volumeById(db, await aVolume(db));
  const names = new StoreNames(Flags.of({}));
  const { token } = names.volume(row);

  assert.match(token, /^nova-[0-9a-f]{32}$/);
  const later = { ...row, status: 'error', host: 'store9', display_name: 'x', deleted: 1, provider_location: 'there' };
  assert.deepEqual(names.volume(later), { ...names.volume(row), made: true });
  assert.notEqual(names.volume({ ...row, created_at: '2026-01-02T03:04:05.678Z' }).token, token);
});
