import { connect, type Channel, type ConfirmChannel } from 'amqplib';
import { makeContext } from '../../src/common/context.ts';
import type { AmqpBus } from '../../src/common/rpc/amqp_bus.ts';
import { rpcClient, type RpcClient } from '../../src/common/rpc/contract.ts';
import { encodeMessage } from '../../src/common/rpc/message.ts';
import { ratePerSecond } from '../load.ts';
import { answerParent } from './worker.ts';
import { connectBus } from './rpc_bus.ts';
import {
  QUESTION,
  RAW_CAST_QUEUE,
  RAW_QUEUE,
  SERVER_HOST,
  benchContract,
  type BenchRpc,
  type Broker,
} from './rpc_contract.ts';

export type Way = 'call' | 'raw_call' | 'cast' | 'raw_cast';

const context = makeContext({ user_id: 'ann', project_id: 'apollo', roles: ['projectmanager'] });
const MESSAGE = { method: 'allocate', args: QUESTION, context };
const BYTES = encodeMessage(MESSAGE, '0'.repeat(32));

let bus: AmqpBus;
let client: RpcClient<BenchRpc>;
let raw: { plain: Channel; confirmed: ConfirmChannel; reply_queue: string };
const waiting = new Map<string, () => void>();
let asked = 0;

async function open(broker: Broker): Promise<void> {
  bus = await connectBus(broker);
  client = rpcClient(benchContract, bus);
  const connection = await connect(`amqp://guest:guest@${broker.host}:${broker.port}`);
  const plain = await connection.createChannel();
  const { queue } = await plain.assertQueue('', { exclusive: true });
  await plain.consume(queue, (message) => waiting.get(String(message?.properties.correlationId))?.(), { noAck: true });
  raw = { plain, confirmed: await connection.createConfirmChannel(), reply_queue: queue };
}

const ways: Record<Way, () => Promise<unknown>> = {
  call: () => client.at(SERVER_HOST).allocate(context, QUESTION),
  cast: () => bus.cast({ topic: 'bench', host: SERVER_HOST }, { ...MESSAGE, method: 'drop' }),
  raw_call: () =>
    new Promise<void>((resolve) => {
      const id = String(++asked);
      waiting.set(id, () => {
        waiting.delete(id);
        resolve();
      });
      raw.plain.sendToQueue(RAW_QUEUE, BYTES, { correlationId: id, replyTo: raw.reply_queue });
    }),
  raw_cast: () =>
    new Promise<void>((resolve, reject) => {
      raw.confirmed.sendToQueue(RAW_CAST_QUEUE, BYTES, { persistent: true }, (err: unknown) =>
        err ? reject(new Error('the broker did not take it', { cause: err })) : resolve(),
      );
    }),
};

answerParent({
  open,
  rate: ({ way, in_flight, ms }: { way: Way; in_flight: number; ms: number }) =>
    ratePerSecond(in_flight, ms, ways[way]),
});
