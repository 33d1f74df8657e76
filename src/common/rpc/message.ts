import { contextFromWire, contextToWire } from '../context.ts';
import { InvalidInput, NovaError, rebuildError } from '../errors.ts';
import type { RpcMessage } from './bus.ts';

/**
 * Bytes on the queue and back, nothing else. Source: Nova 2011.2 nova/rpc.py: JSON with `method`, `args`, `_msg_id` (calls
 * only) and the context as `_context_*` keys; ours adds `_job_id`.
 */
export interface Envelope extends RpcMessage {
  /** Set by 2011's callers: reply to the direct exchange of this name. */
  msg_id?: string;
}

export function encodeMessage(message: RpcMessage, msg_id?: string): Buffer {
  return Buffer.from(
    JSON.stringify({
      method: message.method,
      args: message.args,
      ...(msg_id === undefined ? {} : { _msg_id: msg_id }),
      ...(message.job_id === undefined ? {} : { _job_id: message.job_id }),
      ...contextToWire(message.context),
    }),
  );
}

/** @throws InvalidInput saying what is wrong with the bytes */
export function decodeMessage(bytes: Buffer): Envelope {
  const wire = parseObject(bytes);
  const { method, args, _msg_id, _job_id } = wire;
  if (typeof method !== 'string' || method === '') throw new InvalidInput('the message names no method');
  if (args !== undefined && !isObject(args)) throw new InvalidInput(`the args of ${method} are not an object`);
  return {
    method,
    args: args ?? {},
    context: contextFromWire(wire),
    ...(typeof _msg_id === 'string' ? { msg_id: _msg_id } : {}),
    ...(typeof _job_id === 'number' ? { job_id: _job_id } : {}),
  };
}

/** The reply address of bytes that `decodeMessage` refused, so that even a bad question is answered. */
export function msgIdOf(bytes: Buffer): string | undefined {
  try {
    const id = parseObject(bytes)['_msg_id'];
    return typeof id === 'string' ? id : undefined;
  } catch {
    return undefined; // not even JSON: there is nobody to answer
  }
}

export const encodeResult = (result: unknown): Buffer =>
  Buffer.from(JSON.stringify({ result: result ?? null, failure: null }));

export function encodeFailure(err: unknown): Buffer {
  const error = err instanceof Error ? err : new NovaError(String(err));
  const failure = [error.name, error.message, (error.stack ?? '').split('\n')];
  return Buffer.from(JSON.stringify({ result: null, failure }));
}

/** @returns the result. @throws the failure, as its own class where known */
export function decodeReply(bytes: Buffer): unknown {
  const { result, failure } = parseObject(bytes);
  if (Array.isArray(failure)) {
    const [name, message, traceback] = failure as unknown[];
    throw rebuildError([String(name), String(message), Array.isArray(traceback) ? traceback.map(String) : []]);
  }
  return result ?? null;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function parseObject(bytes: Buffer): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (err) {
    throw new InvalidInput('the message is not JSON', { cause: err });
  }
  if (!isObject(value)) throw new InvalidInput('the message is not a JSON object');
  return value;
}
