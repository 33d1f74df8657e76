import assert from 'node:assert/strict';
import { createServer, type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { once } from 'node:events';
import { RpcUnavailable } from '../../../../src/common/errors.ts';
import { silentLog } from '../../../../src/common/log.ts';
import { AmqpBus } from '../../../../src/common/rpc/amqp_bus.ts';

test('with --rabbit_use_ssl the first byte to the broker is one of TLS, and one that speaks none is told by name', async (t) => {
  const first: number[] = [];
  const server = createServer((socket) => {
    socket.once('data', (bytes) => {
      first.push(bytes[0] ?? 0);
      socket.end('AMQP\0\0\x09\x01');
    });
  }).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');

  const connected = AmqpBus.connect({
    host: '127.0.0.1',
    port: (server.address() as AddressInfo).port,
    tls: true,
    username: 'nova',
    password: 'geheim',
    vhost: '/',
    exchange: 'nova',
    durable: false,
    max_retries: 1,
    retry_interval_s: 0,
    retry_backoff_s: 0,
    response_timeout_ms: 1000,
    log: silentLog,
  });

  await assert.rejects(connected, (err: unknown) => {
    assert.ok(err instanceof RpcUnavailable);
    assert.match(err.message, /^--rabbit_use_ssl: what answers at 127\.0\.0\.1:\d+ speaks no TLS/);
    return true;
  });
  assert.deepEqual(first, [0x16]);
});
