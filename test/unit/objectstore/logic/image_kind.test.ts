import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HEAD_BYTES, imageKind } from '../../../../src/objectstore/logic/image_kind.ts';

const head = (at: number, bytes: Buffer | string): Buffer => {
  const all = Buffer.alloc(HEAD_BYTES);
  Buffer.from(bytes).copy(all, at);
  return all;
};

test('a kernel and a ramdisk are known by their first bytes, and all else is a disk', () => {
  assert.equal(imageKind(head(0x202, 'HdrS')), 'aki');
  assert.equal(imageKind(head(0, Buffer.from([0x1f, 0x8b, 8, 0]))), 'ari');
  assert.equal(imageKind(head(0, '070701')), 'ari');
  assert.equal(imageKind(head(0, 'QFI\xfb')), null);
  assert.equal(imageKind(head(510, Buffer.from([0x55, 0xaa]))), null);
  assert.equal(imageKind(Buffer.from('a disk')), null);
  assert.equal(imageKind(Buffer.alloc(0)), null);
});
