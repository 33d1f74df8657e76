import { RpcUnavailable } from '../errors.ts';
import {
  answerInTime,
  type CallOptions,
  type Consumer,
  type Handler,
  type RpcBus,
  type RpcMessage,
  type Target,
} from './bus.ts';
import { decodeMessage, decodeReply, encodeFailure, encodeMessage, encodeResult } from './message.ts';

/**
 * The bus of one process (`--fake_rabbit`, nova-all). Messages pass through the same bytes as on the wire, so nothing
 * works here that fails there. A queue lives as long as its consumers.
 */
export class MemoryBus implements RpcBus {
  readonly connected = true;
  readonly #queues = new Map<string, Handler[]>();
  readonly #timeout_ms: number;
  #closed = false;
  constructor(options: { timeout_ms?: number } = {}) {
    this.#timeout_ms = options.timeout_ms ?? 60_000;
  }

  async call(target: Target, message: RpcMessage, options: CallOptions = {}): Promise<unknown> {
    const handler = this.#next(queueName(target));
    const { timeout_ms = this.#timeout_ms, signal } = options;
    return answerInTime(
      `${queueName(target)} did not answer ${message.method}`,
      { timeout_ms, signal },
      (resolve, reject) => void this.#answer(handler, message).then(resolve, reject),
    );
  }

  async #answer(handler: Handler, message: RpcMessage): Promise<unknown> {
    const heard = decodeMessage(encodeMessage(message));
    const reply = await handler(heard).then(encodeResult, encodeFailure);
    return decodeReply(reply);
  }

  async cast(target: Target, message: RpcMessage): Promise<void> {
    const handler = this.#next(queueName(target));
    this.#leave(handler, message);
  }

  async fanout(topic: string, message: RpcMessage): Promise<void> {
    for (const handler of this.#queues.get(`${topic}_fanout`) ?? []) this.#leave(handler, message);
  }

  /** Handlers answer errors to callers; a cast has none, and the service has logged it. */
  #leave(handler: Handler, message: RpcMessage): void {
    const heard = decodeMessage(encodeMessage(message));
    setImmediate(() => void handler(heard).catch(() => undefined));
  }

  /** Round robin. */
  #next(queue: string): Handler {
    if (this.#closed) throw new RpcUnavailable('the bus is closed');
    const handlers = this.#queues.get(queue);
    const handler = handlers?.shift();
    if (!handlers || !handler) throw new RpcUnavailable(`nobody serves the queue ${queue}`);
    handlers.push(handler);
    return handler;
  }

  async consume(topic: string, host: string, handler: Handler): Promise<Consumer> {
    const under_way = new Set<Promise<unknown>>();
    const tracked: Handler = (message) => {
      const work = handler(message);
      under_way.add(work);
      const done = () => under_way.delete(work);
      work.then(done, done);
      return work;
    };
    const queues = [topic, `${topic}.${host}`, `${topic}_fanout`];
    for (const queue of queues) this.#queues.set(queue, [...(this.#queues.get(queue) ?? []), tracked]);
    return {
      stop: async () => {
        for (const queue of queues)
          this.#queues.set(
            queue,
            (this.#queues.get(queue) ?? []).filter((other) => other !== tracked),
          );
        await Promise.allSettled(under_way);
      },
    };
  }

  onReconnect(): void {} // never away
  async close(): Promise<void> {
    this.#closed = true;
    this.#queues.clear();
  }
}

export const queueName = ({ topic, host }: Target): string => (host === null ? topic : `${topic}.${host}`);
