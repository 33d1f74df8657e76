import { startRabbitmq } from '../test/rigs/rabbitmq.ts';
import type { Bench } from './bench.ts';
import { figure, interleaved } from './figure.ts';
import type { Way } from './workers/rpc_client.ts';
import { WorkerProcess } from './worker_process.ts';

/** Calls and casts through RabbitMQ between two processes, beside what plain amqplib does with the same bytes. */
export const rpc: Bench = {
  name: 'rpc',
  async *run(scope, { quick }) {
    const { flags } = await startRabbitmq(scope);
    const broker = { host: flags.rabbit_host, port: flags.rabbit_port };
    const server = WorkerProcess.start(scope, 'rpc_server');
    const client = WorkerProcess.start(scope, 'rpc_client');
    await server.ask('serve', broker);
    await client.ask('open', broker);
    const rounds = quick ? 3 : 5;
    const ms = quick ? 300 : 800;
    const rate =
      (way: Way, in_flight: number, for_ms = ms) =>
      () =>
        client.ask<number>('rate', { way, in_flight, ms: for_ms });
    for (const way of ['call', 'raw_call', 'cast', 'raw_cast'] as const) await rate(way, 64, 500)(); // warm

    for (const in_flight of [16, 64])
      yield figure(
        `rpc call, ${in_flight} in flight`,
        '/s',
        await interleaved(rounds, rate('call', in_flight), rate('raw_call', in_flight)),
        { of: 'ratio', at_least: 0.45 },
      );
    yield figure('rpc cast, 64 in flight', '/s', await interleaved(rounds, rate('cast', 64), rate('raw_cast', 64)));
  },
};
