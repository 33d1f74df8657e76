import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InvalidInput } from '../../../../src/common/errors.ts';
import { qcow2VirtualSize } from '../../../../src/compute/logic/qcow2_header.ts';

/** A head as qemu-img writes it, with one field changed. */
function aHead(change: (view: DataView) => void = () => undefined): Uint8Array {
  const head = new Uint8Array(104);
  const view = new DataView(head.buffer);
  view.setUint32(0, 0x514649fb);
  view.setUint32(4, 3);
  view.setBigUint64(24, 5n * 1024n ** 3n);
  change(view);
  return head;
}

test('the size that a guest sees is in the head', () => {
  assert.equal(qcow2VirtualSize(aHead(), 'image 1'), 5 * 1024 ** 3);
});

const refused: Record<string, [Uint8Array, RegExp]> = {
  'a backing file': [aHead((view) => view.setBigUint64(8, 200n)), /^image 1 needs a backing file/],
  'its data elsewhere': [aHead((view) => view.setBigUint64(72, 4n)), /^image 1 keeps its data in another file/],
  encryption: [aHead((view) => view.setUint32(32, 2)), /^image 1 is encrypted/],
  'an unknown version': [aHead((view) => view.setUint32(4, 4)), /^image 1 is qcow2 version 4/],
  'other bytes': [new TextEncoder().encode('not an image at all'.repeat(10)), /^image 1 is not a qcow2 file/],
  'nothing in it': [new Uint8Array(0), /^image 1 is not a qcow2 file/],
  'half a head': [aHead().subarray(0, 80), /^image 1 is not a whole qcow2 file/],
};
for (const [what, [head, message]] of Object.entries(refused))
  test(`an image with ${what} is refused`, () => {
    assert.throws(
      () => qcow2VirtualSize(head, 'image 1'),
      (err) => err instanceof InvalidInput && message.test(err.message),
    );
  });
