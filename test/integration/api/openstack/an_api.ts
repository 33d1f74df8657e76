import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { DbTokens } from '../../../../src/common/auth/tokens.ts';
import type { NovaDb } from '../../../../src/common/db/connect.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { silentLog } from '../../../../src/common/log.ts';
import { MemoryBus } from '../../../../src/common/rpc/memory_bus.ts';
import { identityServer } from '../../../../src/api/identity/app.ts';
import { openstackServer } from '../../../../src/api/openstack/app.ts';
import { NetworkApi } from '../../../../src/network/api.ts';
import { ImageApi } from '../../../../src/objectstore/api.ts';
import { VolumeApi } from '../../../../src/volume/api.ts';
import { ComputeApi } from '../../../../src/compute/api.ts';
import { SecurityGroupApi } from '../../../../src/compute/security_group_api.ts';
import { freePort } from '../../../rigs/free_port.ts';
import { aDatabase, anImage, aProject } from '../../../builders.ts';

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the JSON of an answer, whose shape the test is about
type Json = any;

export interface Answer {
  status: number;
  headers: Headers;
  json: Json;
}
export interface Api {
  db: NovaDb;
  port: number;
  base: string;
  image: number;
  /** Of the identity API. */
  identity: string;
  /** With ann's token of project apollo, below `/v1.1`. */
  ask(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  /** As it is, below the server's root, or a whole URL. */
  raw(path: string, init?: RequestInit): Promise<Answer>;
}

/** A listening OpenStack API with real parts, the user ann in project apollo, and an image; nobody takes its casts. */
export async function anApi(t: TestContext, flags: Record<string, unknown> = {}): Promise<Api> {
  const db = await aDatabase(t);
  await aProject(db);
  const image = await anImage(db);
  const bus = new MemoryBus();
  const read = Flags.of(flags);
  const tokens = new DbTokens({ db, flags: read });
  const images = new ImageApi({ db, bus });
  const network = new NetworkApi({ db, flags: read, bus });
  const volumes = new VolumeApi({ db, flags: read, bus });
  const compute = new ComputeApi({ db, flags: read, bus });
  const groups = new SecurityGroupApi({ db, flags: read, bus, log: silentLog });
  const server = openstackServer({
    db,
    flags: read,
    log: silentLog,
    compute,
    images,
    groups,
    network,
    volumes,
    tokens,
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close().closeAllConnections());
  const { port } = server.address() as AddressInfo;
  const here = { my_ip: '127.0.0.1', osapi_host: '127.0.0.1', osapi_port: port };
  const identity = { identity_host: '127.0.0.1', identity_port: await freePort() };
  const known = Flags.of({ ...flags, ...here, ...identity });
  const keystone = identityServer({ db, flags: known, log: silentLog, tokens });
  keystone.listen(identity.identity_port, '127.0.0.1');
  await once(keystone, 'listening');
  t.after(() => keystone.close().closeAllConnections());
  const base = `http://127.0.0.1:${port}`;

  const raw = async (path: string, init: RequestInit = {}): Promise<Answer> => {
    const res = await fetch(new URL(path, base), init);
    const text = await res.text();
    return { status: res.status, headers: res.headers, json: text === '' ? undefined : JSON.parse(text) };
  };
  const { token } = await tokens.issue('ann', 'ann-access', null);
  return {
    db,
    port,
    base,
    image,
    identity: `http://127.0.0.1:${identity.identity_port}`,
    raw,
    ask: (method, path, body, headers = {}) =>
      raw(`/v1.1${path}`, {
        method,
        headers: {
          'x-auth-token': token,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined
          ? {}
          : { body: typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body) }),
      }),
  };
}
