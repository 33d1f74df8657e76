import { connect } from 'amqplib';
import { connectDb } from '../../src/common/db/connect.ts';
import { syncDb } from '../../src/common/db/migrate.ts';
import { Flags } from '../../src/common/flags.ts';
import { silentLog } from '../../src/common/log.ts';
import type { Manager } from '../../src/common/manager.ts';
import { encodeResult } from '../../src/common/rpc/message.ts';
import { Service } from '../../src/common/service.ts';
import { answerParent } from './worker.ts';
import { connectBus } from './rpc_bus.ts';
import {
  ANSWER,
  RAW_CAST_QUEUE,
  RAW_QUEUE,
  SERVER_HOST,
  benchContract,
  type BenchRpc,
  type Broker,
} from './rpc_contract.ts';

/** A whole Service whose manager does nothing, and beside it the least that amqplib can do: the same bytes, no JSON, no ack. */
class BenchManager implements BenchRpc, Manager {
  async initHost(): Promise<void> {}
  async periodicTasks(): Promise<void> {}
  async allocate(): Promise<typeof ANSWER> {
    return ANSWER;
  }
  async drop(): Promise<void> {}
}

async function serve(broker: Broker): Promise<void> {
  const db = await connectDb('sqlite://');
  await syncDb(db);
  const bus = await connectBus(broker);
  await Service.start({
    flags: Flags.of(),
    log: silentLog,
    db,
    bus,
    host: SERVER_HOST,
    binary: 'nova-bench',
    contract: benchContract,
    manager: new BenchManager(),
  });
  await serveRaw(broker);
}

async function serveRaw({ host, port }: Broker): Promise<void> {
  const channel = await (await connect(`amqp://guest:guest@${host}:${port}`)).createChannel();
  const answer = encodeResult(ANSWER);
  for (const queue of [RAW_QUEUE, RAW_CAST_QUEUE]) {
    await channel.assertQueue(queue, { durable: false });
    await channel.consume(
      queue,
      (message) => {
        const { replyTo, correlationId } = message?.properties ?? {};
        if (replyTo) channel.sendToQueue(String(replyTo), answer, { correlationId: String(correlationId) });
      },
      { noAck: true },
    );
  }
}

answerParent({ serve });
