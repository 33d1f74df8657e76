import type { RequestContext } from '../context.ts';
import { RpcTimeout } from '../errors.ts';

/** Where a message goes: any worker of the topic, or the one on that host. */
export interface Target {
  topic: string;
  host: string | null;
}

/** A method call as it travels. `args` are JSON values, keys in snake_case. */
export interface RpcMessage {
  method: string;
  args: Record<string, unknown>;
  context: RequestContext;
  /** The jobs row that this message is a hint for. */
  job_id?: number;
}

/** Answers a message. A returned value goes back to a caller that waits; a rejection goes back as its error. */
export type Handler = (message: RpcMessage) => Promise<unknown>;

export interface Consumer {
  /** No new messages; resolves when those under way are answered. */
  stop(): Promise<void>;
}

export interface CallOptions {
  /** Instead of --rpc_response_timeout. */
  timeout_ms?: number;
  /** Ends the waiting. */
  signal?: AbortSignal | undefined;
}

/**
 * Carries calls and hints between daemons. Two of them: RabbitMQ (amqp_bus.ts) and in-process (memory_bus.ts);
 * one contract test holds for both.
 */
export interface RpcBus {
  /** Asks and waits. @throws the callee's error, RpcTimeout, RpcUnavailable (no such queue, or no broker), the signal's reason */
  call(target: Target, message: RpcMessage, options?: CallOptions): Promise<unknown>;
  /** Leaves a message without an answer; resolves once the broker has it. @throws RpcUnavailable */
  cast(target: Target, message: RpcMessage): Promise<void>;
  /** Tells every worker of the topic. */
  fanout(topic: string, message: RpcMessage): Promise<void>;
  /** Answers on `topic`, `topic.host` and the topic's fanout; goes on by itself after the broker was away. */
  consume(topic: string, host: string, handler: Handler, options?: { prefetch?: number }): Promise<Consumer>;
  /** Runs each time `connected` becomes true again. */
  onReconnect(listener: () => void): void;
  /** There is a broker, and it takes messages: one that is short of memory or disk does not. */
  readonly connected: boolean;
  close(): Promise<void>;
}

/** An answer, or a rejection: at the latest after `timeout_ms`, or at the abort. `ask` is told how many ms are left. */
export async function answerInTime<T>(
  what: string,
  { timeout_ms, signal }: { timeout_ms: number; signal: AbortSignal | undefined },
  ask: (resolve: (answer: T) => void, reject: (err: unknown) => void, left_ms: () => number) => void,
): Promise<T> {
  signal?.throwIfAborted();
  const until = performance.now() + timeout_ms;
  let timer: NodeJS.Timeout | undefined;
  let aborted: () => void = () => undefined;
  try {
    return await new Promise<T>((resolve, reject) => {
      timer = setTimeout(() => reject(new RpcTimeout(`${what} in ${timeout_ms} ms`)), timeout_ms);
      aborted = () => reject(signal?.reason as Error);
      signal?.addEventListener('abort', aborted);
      ask(resolve, reject, () => Math.max(1, Math.round(until - performance.now())));
    });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', aborted);
  }
}
