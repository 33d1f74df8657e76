import assert from 'node:assert/strict';
import { test } from 'node:test';
import { userNetwork } from '../../../../src/compute/logic/user_network.ts';
import { aNic } from '../drivers/specs.ts';

test('a guest has its fixed ip and its gateway, and QEMU takes two addresses from the other end', () => {
  assert.deepEqual(userNetwork(aNic()), {
    net: '10.0.0.0/24',
    address: '10.0.0.10',
    gateway: '10.0.0.1',
    dns: '10.0.0.254',
    metadata: '10.0.0.253',
  });
});

test('no two of the four addresses are the same, and all are inside, wherever guest and gateway are', () => {
  for (const prefix of [8, 24, 28, 29, 30, 32])
    for (const last of [1, 2, 5, 6])
      for (const gateway of [null, '192.168.7.1', '192.168.7.6', '172.16.0.1']) {
        const { net, ...addresses } = userNetwork(aNic({ address: `192.168.7.${last}`, prefix, gateway }));
        const what = JSON.stringify({ prefix, last, gateway, net, addresses });
        assert.equal(new Set(Object.values(addresses)).size, 4, what);
        if (prefix < 29) continue;
        assert.equal(net, '192.168.7.0/29', what);
        for (const address of Object.values(addresses)) assert.match(address, /^192\.168\.7\.[1-6]$/, what);
      }
});
