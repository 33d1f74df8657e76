import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { pipeline } from 'node:stream';
import { after, test } from 'node:test';
import { silentLog } from '../../../src/common/log.ts';
import { AmqpBus } from '../../../src/common/rpc/amqp_bus.ts';
import { RpcTimeout, RpcUnavailable } from '../../../src/common/errors.ts';
import { aContext } from '../../builders.ts';
import { busContract } from '../../bus_contract.ts';
import { startRabbitmq } from '../../rigs/rabbitmq.ts';
import { until } from '../../until.ts';

const open: AmqpBus[] = [];
after(async () => {
  for (const bus of open) await bus.close();
});
// Not in a before hook, whose end would already be the end of the scope.
const rabbit = await startRabbitmq({ after });

async function aBus(port = rabbit.flags.rabbit_port): Promise<AmqpBus> {
  const bus = await AmqpBus.connect({
    host: rabbit.flags.rabbit_host,
    port,
    tls: false,
    username: 'guest',
    password: 'guest',
    vhost: '/',
    exchange: 'nova',
    durable: false,
    max_retries: 10,
    retry_interval_s: 0.2,
    retry_backoff_s: 0.1,
    response_timeout_ms: 120_000,
    log: silentLog,
  });
  open.push(bus);
  return bus;
}

busContract('RabbitMQ bus', () => aBus());

/** What a Nova of 2011 puts on the wire, with its own reply exchange and queue. */
async function askAsNova(topic: string, method: string, args: object, answers: number): Promise<unknown[]> {
  return rabbit.withChannel(async (channel) => {
    const msg_id = 'f'.repeat(24) + String(Date.now()).slice(-8);
    await channel.assertExchange(msg_id, 'direct', { durable: true, autoDelete: true });
    await channel.assertQueue(msg_id, { durable: false, autoDelete: true, exclusive: true });
    await channel.bindQueue(msg_id, msg_id, msg_id);
    const replies: unknown[] = [];
    const all = new Promise<void>((resolve) => {
      void channel.consume(msg_id, (message) => {
        if (message) replies.push(JSON.parse(message.content.toString()));
        if (replies.length === answers) resolve();
      });
    });
    const body = {
      method,
      args,
      _msg_id: msg_id,
      _context_user: 'joe',
      _context_project: 'p1',
      _context_is_admin: true,
    };
    channel.publish('nova', topic, Buffer.from(JSON.stringify(body)));
    await all;
    return replies;
  });
}

test('a message in the envelope of 2011 is answered on the exchange of its _msg_id, and an end marker follows', async () => {
  const bus = await aBus();
  const consumer = await bus.consume('old', 'hostA', async (message) => `${message.context.user_id}:${message.method}`);

  const replies = await askAsNova('old', 'hello', { a: 1 }, 2);

  assert.deepEqual(replies, [
    { result: 'joe:hello', failure: null },
    { result: null, failure: null },
  ]);
  await consumer.stop();
});

test('a raised error reaches a caller of 2011 as class, text and traceback lines', async () => {
  const bus = await aBus();
  const consumer = await bus.consume('old2', 'hostA', () => Promise.reject(new RpcUnavailable('no such thing')));

  const [reply] = (await askAsNova('old2', 'hello', {}, 1)) as { failure: [string, string, string[]] }[];

  assert.equal(reply?.failure[0], 'RpcUnavailable');
  assert.equal(reply?.failure[1], 'no such thing');
  assert.ok(Array.isArray(reply?.failure[2]) && reply.failure[2].length > 0);
  await consumer.stop();
});

test('after the broker was stopped and started, consumers are declared again and calls go through', async () => {
  const bus = await aBus();
  let reconnected = 0;
  bus.onReconnect(() => reconnected++);
  const consumer = await bus.consume('again', 'hostA', async () => 'here');
  assert.equal(await bus.call({ topic: 'again', host: null }, { method: 'x', args: {}, context: aContext() }), 'here');

  await rabbit.restart();
  // A call made while the bus still reconnects waits for it.
  const answer = await bus.call({ topic: 'again', host: 'hostA' }, { method: 'x', args: {}, context: aContext() });

  assert.equal(answer, 'here');
  assert.equal(reconnected, 1);
  await consumer.stop();
});

test('a queue that the broker dropped is declared again', async () => {
  const bus = await aBus();
  const consumer = await bus.consume('dropped', 'hostA', async () => 'here');
  const back = new Promise<void>((resolve) => bus.onReconnect(resolve));

  await rabbit.withChannel((channel) => channel.deleteQueue('dropped'));
  await back;

  assert.equal(
    await bus.call({ topic: 'dropped', host: null }, { method: 'x', args: {}, context: aContext() }),
    'here',
  );
  await consumer.stop();
});

test('a call whose caller gave up while the broker was away is not made when it is back', async () => {
  const bus = await aBus();
  const seen: string[] = [];
  const consumer = await bus.consume('late', 'hostA', async ({ method }) => void seen.push(method));
  const target = { topic: 'late', host: 'hostA' };
  const say = (method: string) => ({ method, args: {}, context: aContext() });

  await rabbit.stop();
  await until('the bus knows', () => !bus.connected);
  await assert.rejects(bus.call(target, say('given up'), { timeout_ms: 50 }), RpcTimeout);
  const patient = bus.call(target, say('patient'));
  await rabbit.start();
  await patient;
  await bus.call(target, say('later')); // what was published before it would have come before it

  assert.deepEqual(seen, ['patient', 'later']);
  await consumer.stop();
});

test('a broker short of memory counts as away: nudges return, calls wait in the process, and all goes on after it', async () => {
  const bus = await aBus();
  const seen: string[] = [];
  const consumer = await bus.consume('alarm', 'hostA', async ({ method }) => void seen.push(method));
  const target = { topic: 'alarm', host: 'hostA' };
  const say = (method: string) => ({ method, args: {}, context: aContext() });
  let again = 0;
  bus.onReconnect(() => again++);

  await rabbit.alarm(true);
  await bus.fanout('alarm', say('nudge')); // the broker says that it is blocked to who publishes
  await until('the bus knows', () => !bus.connected);
  await assert.rejects(bus.call(target, say('given up'), { timeout_ms: 50 }), RpcTimeout);
  const patient = bus.call(target, say('patient'));
  await rabbit.alarm(false);
  await patient;

  assert.deepEqual(seen, ['nudge', 'patient']);
  assert.equal(bus.connected, true);
  assert.equal(again, 1);
  await consumer.stop();
});

test('a bus that is closed while it connects again leaves no connection', async (t) => {
  const { rabbit_host: host, rabbit_port: port } = rabbit.flags;
  const clients: Socket[] = [];
  const through = (client: Socket) => void pipeline(client, connect(port, host), client, () => undefined);
  const proxy = createServer((client) => {
    if (clients.push(client) === 1) through(client);
  });
  await once(proxy.listen(0, host), 'listening');
  t.after(() => proxy.close());
  const bus = await aBus((proxy.address() as AddressInfo).port);

  clients[0]?.destroy();
  await until('it connects again', () => clients.length === 2);
  await bus.close();
  through(clients[1] as Socket);

  await until('the connection is closed', () => clients[1]?.destroyed === true);
});

test('a broker that hangs holds up nobody who closes the bus', async (t) => {
  const bus = await aBus();
  rabbit.pause();
  t.after(() => rabbit.resume());

  await bus.close();
});
