import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Aborted, InstanceNotFound, RpcTimeout, RpcUnavailable } from '../src/common/errors.ts';
import type { RpcBus, RpcMessage } from '../src/common/rpc/bus.ts';
import { aContext } from './builders.ts';
import { until } from './until.ts';

const say = (method: string, args: Record<string, unknown> = {}): RpcMessage => ({ method, args, context: aContext() });

/** What holds for every bus; `makeBus` gives connected ones that talk to each other, closed by the caller. */
export function busContract(name: string, makeBus: () => Promise<RpcBus>): void {
  test(`${name}: a call brings the method's result, and the context arrives with it`, async () => {
    const bus = await makeBus();
    const heard: RpcMessage[] = [];
    const consumer = await bus.consume('c1', 'hostA', async (message) => {
      heard.push(message);
      return { sum: Number(message.args['a']) + 1 };
    });

    const result = await bus.call({ topic: 'c1', host: 'hostA' }, say('add', { a: 41 }));

    assert.deepEqual(result, { sum: 42 });
    assert.equal(heard[0]?.method, 'add');
    assert.equal(heard[0]?.context.project_id, 'apollo');
    assert.deepEqual(heard[0]?.context.roles, ['projectmanager']);
    await consumer.stop();
  });

  test(`${name}: an error comes back as its own class with its message`, async () => {
    const bus = await makeBus();
    const consumer = await bus.consume('c2', 'hostA', () =>
      Promise.reject(new InstanceNotFound('there is no i-00000001')),
    );

    await assert.rejects(bus.call({ topic: 'c2', host: null }, say('x')), (err: unknown) => {
      assert.ok(err instanceof InstanceNotFound);
      assert.equal(err.message, 'there is no i-00000001');
      return true;
    });
    await consumer.stop();
  });

  test(`${name}: two workers of a topic take turns, and topic.host reaches only that host`, async () => {
    const bus = await makeBus();
    const consumers = await Promise.all(['hostA', 'hostB'].map((host) => bus.consume('c3', host, async () => host)));

    const any = await Promise.all([1, 2, 3, 4].map(() => bus.call({ topic: 'c3', host: null }, say('who'))));
    const only = await Promise.all([1, 2, 3, 4].map(() => bus.call({ topic: 'c3', host: 'hostB' }, say('who'))));

    assert.deepEqual(any.toSorted(), ['hostA', 'hostA', 'hostB', 'hostB']);
    assert.deepEqual(only, ['hostB', 'hostB', 'hostB', 'hostB']);
    for (const consumer of consumers) await consumer.stop();
  });

  test(`${name}: a fanout reaches every worker once`, async () => {
    const bus = await makeBus();
    const seen: string[] = [];
    const consumers = await Promise.all(
      ['hostA', 'hostB', 'hostC'].map((host) => bus.consume('c4', host, async () => void seen.push(host))),
    );

    await bus.fanout('c4', say('refresh'));

    await until('all three have it', () => seen.length >= 3);
    assert.deepEqual(seen.toSorted(), ['hostA', 'hostB', 'hostC']);
    for (const consumer of consumers) await consumer.stop();
  });

  test(`${name}: a cast arrives once, with the job it stands for`, async () => {
    const bus = await makeBus();
    const seen: RpcMessage[] = [];
    const consumer = await bus.consume('c5', 'hostA', async (message) => void seen.push(message));

    await bus.cast({ topic: 'c5', host: 'hostA' }, { ...say('run', { instance_id: 7 }), job_id: 99 });

    await until('it is there', () => seen.length >= 1);
    assert.equal(seen.length, 1);
    assert.equal(seen[0]?.job_id, 99);
    assert.deepEqual(seen[0]?.args, { instance_id: 7 });
    await consumer.stop();
  });

  test(`${name}: a call or cast to a queue that nobody ever served is refused, not lost`, async () => {
    const bus = await makeBus();

    await assert.rejects(bus.call({ topic: 'nobody', host: 'x' }, say('y')), RpcUnavailable);
    await assert.rejects(bus.cast({ topic: 'nobody', host: 'x' }, say('y')), RpcUnavailable);
  });

  test(`${name}: a call that is not answered in time fails by name and time`, async () => {
    const bus = await makeBus();
    const stuck = barrier();
    const consumer = await bus.consume('c6', 'hostA', () => stuck.opened);

    await assert.rejects(bus.call({ topic: 'c6', host: 'hostA' }, say('sleep'), { timeout_ms: 50 }), (err: unknown) => {
      assert.ok(err instanceof RpcTimeout);
      assert.match(err.message, /c6\.hostA did not answer sleep in 50 ms/);
      return true;
    });
    stuck.open();
    await consumer.stop();
  });

  test(`${name}: a call is given up at once when its signal is aborted, before or while it waits`, async () => {
    const bus = await makeBus();
    const [asked, answer] = [barrier(), barrier()];
    const consumer = await bus.consume('c7', 'hostA', async () => {
      asked.open();
      await answer.opened;
    });
    const abort = new AbortController();
    const options = { timeout_ms: 600_000, signal: abort.signal };
    const call = bus.call({ topic: 'c7', host: 'hostA' }, say('sleep'), options);
    const given_up = assert.rejects(call, { name: 'Aborted', message: 'given up for a delete' });
    await asked.opened;

    abort.abort(new Aborted('given up for a delete'));

    await given_up;
    await assert.rejects(bus.call({ topic: 'c7', host: 'hostA' }, say('sleep'), options), Aborted);
    answer.open();
    await consumer.stop();
  });
}

function barrier(): { open: () => void; opened: Promise<void> } {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { open, opened };
}
