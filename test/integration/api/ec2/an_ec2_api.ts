import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { parseStringPromise } from 'xml2js';
import { ec2Actions } from '../../../../src/api/ec2/actions.ts';
import { ec2Deps } from '../../../../src/api/ec2/deps.ts';
import { ec2Server } from '../../../../src/api/ec2/server.ts';
import { DbAuthenticator } from '../../../../src/common/auth/db_authenticator.ts';
import { nowText } from '../../../../src/common/clock.ts';
import type { NovaDb } from '../../../../src/common/db/connect.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { silentLog, type Log } from '../../../../src/common/log.ts';
import { MemoryBus } from '../../../../src/common/rpc/memory_bus.ts';
import { ComputeApi } from '../../../../src/compute/api.ts';
import { ProviderFirewallApi } from '../../../../src/compute/provider_firewall_api.ts';
import { SecurityGroupApi } from '../../../../src/compute/security_group_api.ts';
import { NetworkApi } from '../../../../src/network/api.ts';
import { ImageApi } from '../../../../src/objectstore/api.ts';
import { VolumeApi } from '../../../../src/volume/api.ts';
import { aDatabase, anImage, aProject } from '../../../builders.ts';
import { atEnd, type Scope } from '../../../rigs/tmp.ts';

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the XML of an answer, whose shape the test is about
type Xml = any;

export interface Answer {
  status: number;
  /** Of an error; undefined when all is well. */
  code: string | undefined;
  message: string | undefined;
  /** Children of the root by name; a list of items is an array, a text a string. */
  xml: Xml;
  text: string;
}
export interface Ec2Api {
  db: NovaDb;
  port: number;
  /** Of project apollo. */
  image: number;
  /** Posts as ann, a member of project apollo and its manager, or as another user of the database. */
  ask(action: string, params?: Record<string, string>, as?: string): Promise<Answer>;
}

const encode = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);

/** The parameters as a query string, signed with version 2. */
export function signedQuery(
  given: Record<string, string>,
  {
    secret,
    host,
    method = 'POST',
    path = '/services/Cloud',
  }: Record<'secret' | 'host', string> & Partial<Record<'method' | 'path', string>>,
): string {
  const all: Record<string, string> = {
    SignatureVersion: '2',
    SignatureMethod: 'HmacSHA256',
    Timestamp: new Date().toISOString(),
    Version: '2009-04-04',
    ...given,
  };
  const query = Object.keys(all)
    .sort()
    .map((name) => `${encode(name)}=${encode(all[name] ?? '')}`)
    .join('&');
  const signature = createHmac('sha256', secret).update(`${method}\n${host}\n${path}\n${query}`).digest('base64');
  return `${query}&Signature=${encode(signature)}`;
}

/** A user who belongs to apollo and holds these roles there and globally; `cloudadmin` and `itsec` make an administrator. */
export async function aMember(db: NovaDb, user: string, roles: readonly string[] = []): Promise<void> {
  const created_at = nowText();
  await db
    .insertInto('users')
    .values({ id: user, name: user, access_key: `${user}-access`, secret_key: `${user}-secret`, created_at })
    .execute();
  await db.insertInto('user_project_association').values({ user_id: user, project_id: 'apollo' }).execute();
  for (const role of roles) {
    await db.insertInto('user_role_association').values({ user_id: user, role }).execute();
    if (role === 'cloudadmin' || role === 'itsec') continue;
    await db
      .insertInto('user_project_role_association')
      .values({ user_id: user, project_id: 'apollo', role })
      .execute();
  }
}

/** A listening EC2 API over a database, with user ann in project apollo and an image; nobody takes its casts. */
export async function anEc2Api(
  t: Scope,
  { flags = {}, log = silentLog }: { flags?: Record<string, unknown>; log?: Log } = {},
): Promise<Ec2Api> {
  const db = await aDatabase({ after: (end) => atEnd(t, async () => void (await (end as () => unknown)())) });
  await aProject(db);
  const image = await anImage(db);
  const read = Flags.of({ my_ip: '127.0.0.1', ec2_host: '127.0.0.1', ...flags });
  const bus = new MemoryBus();
  const server = ec2Server({
    actions: ec2Actions,
    deps: ec2Deps({
      db,
      flags: read,
      compute: new ComputeApi({ db, flags: read, bus }),
      images: new ImageApi({ db, bus }),
      groups: new SecurityGroupApi({ db, flags: read, bus, log }),
      network: new NetworkApi({ db, flags: read, bus }),
      provider: new ProviderFirewallApi({ db, bus, log }),
      volumes: new VolumeApi({ db, flags: read, bus }),
    }),
    authenticator: new DbAuthenticator({ db, flags: read }),
    log,
    use_forwarded_for: false,
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  atEnd(t, async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  const { port } = server.address() as AddressInfo;
  const host = `127.0.0.1:${port}`;
  return {
    db,
    port,
    image,
    async ask(action, params = {}, as = 'ann') {
      const given = { Action: action, AWSAccessKeyId: `${as}-access:apollo`, ...params };
      const response = await fetch(`http://${host}/services/Cloud`, {
        method: 'POST',
        body: signedQuery(given, { secret: `${as}-secret`, host }),
        headers: { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' },
      });
      return readAnswer(response.status, await response.text());
    },
  };
}

async function readAnswer(status: number, text: string): Promise<Answer> {
  const parsed = (await parseStringPromise(text, { explicitArray: false, ignoreAttrs: true })) as Record<string, Xml>;
  const xml = itemsAsArrays(Object.values(parsed)[0]);
  const error = xml?.Errors?.Error;
  return { status, code: error?.Code, message: error?.Message, xml, text };
}

/** `{ item: x }` and `{ item: [x, y] }` become arrays. */
function itemsAsArrays(xml: Xml): Xml {
  if (typeof xml !== 'object' || xml === null) return xml;
  if (Object.keys(xml).join() === 'item') return [xml.item].flat().map(itemsAsArrays);
  return Object.fromEntries(Object.entries(xml).map(([name, value]) => [name, itemsAsArrays(value)]));
}
