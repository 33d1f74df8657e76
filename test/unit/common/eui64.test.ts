import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InvalidInput } from '../../../src/common/errors.ts';
import { eui64Address } from '../../../src/common/eui64.ts';

test("a guest's IPv6 address is the prefix and the EUI-64 of its MAC", () => {
  assert.equal(eui64Address('fd00::/64', '02:16:3e:33:44:55'), 'fd00::16:3eff:fe33:4455');
  assert.equal(eui64Address('2001:db8:0:7::/64', '02:16:3E:00:00:02'), '2001:db8:0:7:16:3eff:fe00:2');
  assert.throws(() => eui64Address('fd00::/64', '02:16:3e:33:44'), InvalidInput);
  assert.throws(() => eui64Address('fd00::/96', '02:16:3e:33:44:55'), InvalidInput);
});
