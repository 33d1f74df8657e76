import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InvalidInput } from '../../../../src/common/errors.ts';
import { isManifest, nameOfLocation, parseLocation } from '../../../../src/objectstore/logic/location.ts';

test('an image location is split at the first slash', () => {
  assert.deepEqual(parseLocation('web/tiny.img'), { bucket: 'web', key: 'tiny.img' });
  assert.deepEqual(parseLocation('/web/a/b.manifest.xml'), { bucket: 'web', key: 'a/b.manifest.xml' });
  for (const wrong of ['', 'web', 'web/', '/', 'http:']) assert.throws(() => parseLocation(wrong), InvalidInput, wrong);
});

test('a manifest is known by its name, and an image is called by its file', () => {
  assert.equal(isManifest('a/tiny.manifest.xml'), true);
  assert.equal(isManifest('tiny.xml'), false);
  assert.equal(nameOfLocation('a/tiny.manifest.xml'), 'tiny');
  assert.equal(nameOfLocation('tiny.img'), 'tiny.img');
});
