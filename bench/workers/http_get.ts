import { Pool } from 'undici';

export interface Ask {
  origin: string;
  path: string;
  headers: Record<string, string>;
  /** GET without one. */
  method?: 'PUT';
  /** Of zeros. */
  body_bytes?: number;
}

const CONNECTIONS = 64;
const pools = new Map<string, Pool>();

function poolOf(origin: string): Pool {
  const pool = pools.get(origin) ?? new Pool(origin, { connections: CONNECTIONS });
  pools.set(origin, pool);
  return pool;
}

/** With the least that undici can do, so that the client is not what is measured. @returns bytes of the body */
export const get = ({ origin, path, headers, method, body_bytes }: Ask): Promise<number> =>
  new Promise((resolve, reject) => {
    let bytes = 0;
    let status = 0;
    let begin = '';
    poolOf(origin).dispatch(
      { method: method ?? 'GET', path, headers, ...(body_bytes === undefined ? {} : { body: zeros(body_bytes) }) },
      {
        onRequestStart: () => undefined,
        onResponseStart: (_controller, code) => void (status = code),
        onResponseData: (_controller, chunk) => {
          bytes += chunk.length;
          if (!isGood(status)) begin = chunk.toString().slice(0, 1000);
        },
        onResponseEnd: () =>
          isGood(status) ? resolve(bytes) : reject(new Error(`${path.slice(0, 80)}: ${status} ${begin}`)),
        onResponseError: (_controller, err) => reject(err),
      },
    );
  });

const isGood = (status: number): boolean => status >= 200 && status < 300;

const bodies = new Map<number, Buffer>();
function zeros(bytes: number): Buffer {
  const body = bodies.get(bytes) ?? Buffer.alloc(bytes);
  bodies.set(bytes, body);
  return body;
}
