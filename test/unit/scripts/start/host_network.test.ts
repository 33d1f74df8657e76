import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { networkInterfaces } from 'node:os';
import test from 'node:test';
import { freePort, freeRange, gatewayOf } from '../../../../scripts/start/host_network.ts';
import { contains, parseCidr, parseIpv4 } from '../../../../src/network/logic/addresses.ts';

test('a port that somebody listens on is given up for another', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;

  const other = await freePort(port);

  assert.notEqual(other, port);
  assert.equal(await freePort(other), other);
});

test('the network of guests holds no address of this machine', () => {
  const range = parseCidr(freeRange());

  const own = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  for (const { address } of own.filter(({ family }) => family === 'IPv4'))
    assert.ok(!contains(range, { base: parseIpv4(address), prefix: 32, size: 1 }), address);
  assert.equal(gatewayOf('10.11.12.0/24'), '10.11.12.1');
});
