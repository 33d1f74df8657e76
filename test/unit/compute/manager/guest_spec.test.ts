import assert from 'node:assert/strict';
import { test } from 'node:test';
import { guestId, guestName } from '../../../../src/compute/manager/guest_spec.ts';

test('a guest is known by its name alone, whatever the template', () => {
  for (const template of ['instance-%08x', 'vm%d', '%x', 'box-%03d-x', 'x%08x-d'])
    for (const id of [1, 10, 255, 4096, 123456]) assert.equal(guestId(template, guestName(template, id)), id, template);
});

test('a name that the template does not make is nobody of ours', () => {
  for (const name of ['instance-a', 'instance-0000000a-2', 'other-0000000a', 'instance-', '', 'instance-0000000A'])
    assert.equal(guestId('instance-%08x', name), undefined, name);
});
