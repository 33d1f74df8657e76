import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Crc32c, Crc64Nvme } from '../../../../src/objectstore/logic/crc.ts';

// The check values of the CRC catalogues: the sum of the digits 1 to 9.
for (const [name, make, expected] of [
  ['CRC-32C', () => new Crc32c(), 'e3069283'],
  ['CRC-64/NVME', () => new Crc64Nvme(), 'ae8b14860a799888'],
] as const)
  test(`${name} has its published check value, at once and in pieces`, () => {
    const [whole, pieces] = [make(), make()];
    whole.update(Buffer.from('123456789'));
    for (const digit of '123456789') pieces.update(Buffer.from(digit));
    assert.equal(whole.digest().toString('hex'), expected);
    assert.equal(pieces.digest().toString('hex'), expected);
  });
