import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { connect, type AddressInfo } from 'node:net';
import { type TestContext } from 'node:test';
import { pino } from 'pino';
import { actionsOver, actionTable } from '../../../../src/api/ec2/action.ts';
import { ec2Server } from '../../../../src/api/ec2/server.ts';
import { instanceId, int, list, optional } from '../../../../src/api/ec2/params.ts';
import { getCallerIdentity } from '../../../../src/api/ec2/sts.ts';
import { AuthFailure } from '../../../../src/common/errors.ts';

/** The EC2 protocol on a listening server, with a few actions of its own. */
export interface Api {
  port: number;
  /** Parsed lines of the log. */
  log: Record<string, unknown>[];
  /** Resolves when WaitForever is at work, and with the reason when its caller left. */
  begun: Promise<void>;
  left: Promise<unknown>;
}

export async function anApi(t: TestContext): Promise<Api> {
  const log: Record<string, unknown>[] = [];
  const lines = { write: (line: string) => void log.push(JSON.parse(line) as Record<string, unknown>) };
  let begin: () => void = () => undefined;
  const begun = new Promise<void>((resolve) => (begin = resolve));
  let leave: (reason: unknown) => void = () => undefined;
  const left = new Promise((resolve) => (leave = resolve));
  const action = actionsOver<object>();
  const actions = actionTable<object>([
    action('DescribeInstances', {
      about: '',
      params: { InstanceId: list(instanceId()), MaxResults: optional(int({ min: 5, max: 1000 })) },
      roles: 'all',
      run: (ctx, { InstanceId }) => Promise.resolve({ owner_id: ctx.project_id, ids: InstanceId }),
    }),
    action('AllocateAddress', {
      about: '',
      params: {},
      roles: ['netadmin'],
      run: () => Promise.resolve({ return: true }),
    }),
    action('Break', {
      about: '',
      params: {},
      roles: 'all',
      run: () => Promise.reject(new TypeError('undefined is not a cloud')),
    }),
    action('WaitForever', {
      about: '',
      params: {},
      roles: 'all',
      run: (ctx) =>
        new Promise((_, reject) => {
          begin();
          ctx.signal.addEventListener('abort', () => {
            leave(ctx.signal.reason);
            reject(ctx.signal.reason as Error);
          });
        }),
    }),
    getCallerIdentity,
  ]);
  const server = ec2Server({
    actions,
    deps: {},
    authenticator: {
      identify: (key) =>
        key === 'akid:web'
          ? Promise.resolve({
              user_id: 'ann',
              project_id: 'web',
              project_created_at: '2011-04-15T00:00:00.000Z',
              is_admin: false,
              is_superuser: false,
              is_member: true,
              roles: ['sysadmin'],
              secret_key: 's3',
            })
          : Promise.reject(new AuthFailure(`no user has the access key ${key}`)),
    },
    log: pino({}, lines),
    use_forwarded_for: false,
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return { port: (server.address() as AddressInfo).port, log, begun, left };
}

export const FORM = 'application/x-www-form-urlencoded; charset=utf-8';

/** A request's parameters, signed with version 2. */
export function signed(
  port: number,
  given: Record<string, string>,
  { method = 'POST', path = '/services/Cloud' } = {},
): string {
  const all: Record<string, string> = {
    AWSAccessKeyId: 'akid:web',
    SignatureVersion: '2',
    SignatureMethod: 'HmacSHA256',
    Timestamp: new Date().toISOString(),
    Version: '2009-04-04',
    ...given,
  };
  const encode = (text: string) =>
    encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  const query = Object.keys(all)
    .sort()
    .map((name) => `${encode(name)}=${encode(all[name] ?? '')}`)
    .join('&');
  const text = `${method}\n127.0.0.1:${port}\n${path}\n${query}`;
  return `${query}&Signature=${encode(createHmac('sha256', 's3').update(text).digest('base64'))}`;
}

export const post = (
  port: number,
  body: string | Buffer,
  path = '/services/Cloud',
  headers: Record<string, string> = {},
) => fetch(`http://127.0.0.1:${port}${path}`, { method: 'POST', body, headers: { 'content-type': FORM, ...headers } });

export async function outcome(response: Response): Promise<string> {
  return `${response.status} ${/<Code>(.*?)<\/Code>/.exec(await response.text())?.[1] ?? 'ok'}`;
}
export const works = async ({ port }: Api) =>
  assert.equal(await outcome(await post(port, signed(port, { Action: 'DescribeInstances' }))), '200 ok');

/** What comes back for raw bytes, up to the end of the connection. `send` writes and may end. */
export async function raw(port: number, send: (socket: ReturnType<typeof connect>) => void): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true }).setTimeout(60_000);
  socket.on('timeout', () => socket.destroy(new Error('no answer in 60 s')));
  let text = '';
  socket.setEncoding('utf8').on('data', (more: string) => (text += more));
  socket.on('end', () => socket.end());
  send(socket);
  await once(socket, 'close').catch((err: unknown) => {
    if (text === '') throw err; // a reset after the whole answer is the connection's end too
  });
  return text;
}
export const head = (port: number, ...headers: string[]) =>
  [`POST /services/Cloud HTTP/1.1`, `Host: 127.0.0.1:${port}`, `Content-Type: ${FORM}`, ...headers, '', ''].join(
    '\r\n',
  );
