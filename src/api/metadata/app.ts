import { createHash, randomBytes } from 'node:crypto';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { clock } from '../../common/clock.ts';
import type { NovaDb } from '../../common/db/connect.ts';
import { instanceAt, mpiHosts, type InstanceFacts } from '../../common/db/metadata_lookup.ts';
import { NotAuthorized, Unavailable } from '../../common/errors.ts';
import { boolean, defineFlags, integer, string, type Flags } from '../../common/flags.ts';
import type { Log } from '../../common/log.ts';
import { forwardedFlags } from '../remote_address.ts';
import { callerAddress } from './caller.ts';
import { MAX_TTL_S, SessionTokens } from './session_token.ts';
import { metadataTree } from './tree.ts';
import { splitPath, walk } from './walk.ts';

export const metadataFlags = defineFlags({
  metadata_listen: string('0.0.0.0', 'Address that the metadata service listens on'),
  metadata_port: integer(8775, 'Port that the metadata service listens on', { min: 0, max: 65535 }),
  metadata_proxy_shared_secret: string(
    '',
    'Secret shared with proxies that ask for instances in their place; empty takes no proxy at its word',
  ),
});

/** Read by the EC2 API too, which shows it. */
export const tokenFlags = defineFlags({
  metadata_require_token: boolean(
    false,
    'Answer a guest only with a session token (IMDSv2), where its launch does not say otherwise (MetadataOptions.HttpTokens)',
  ),
});

export interface MetadataDeps {
  db: NovaDb;
  flags: Flags;
  log: Log;
}

/** All give the same tree. Source: Nova 2011.3 etc/nova/api-paste.ini, composite ec2 */
export const VERSIONS = [
  '1.0',
  '2007-01-19',
  '2007-03-01',
  '2007-08-29',
  '2007-10-10',
  '2007-12-15',
  '2008-02-01',
  '2008-09-01',
  '2009-04-04',
  'latest',
] as const;
const KNOWN: ReadonlySet<string> = new Set(VERSIONS);

/** Whether a URL is the metadata service's where it shares a port with the EC2 API: its first part is a version. */
export const isMetadataPath = (url: string): boolean => KNOWN.has(/^\/+([^/?]*)/.exec(url)?.[1] ?? '');

/** What the guest gets; a Buffer is user data. */
interface Answer {
  status: number;
  body: string | Buffer;
  headers?: Record<string, string>;
}
const answer = (status: number, body: string | Buffer, headers: Record<string, string> = {}): Answer => ({
  status,
  body,
  headers,
});

/**
 * `http://169.254.169.254` as a guest sees it: tells an instance about itself, knowing it by the address it asks from.
 * Source: Nova 2011.3 nova/api/ec2/metadatarequesthandler.py; session tokens as AWS has them since 2019
 */
export function metadataHandler(deps: MetadataDeps): RequestListener {
  const { metadata_proxy_shared_secret: secret } = deps.flags.read(metadataFlags);
  const { use_forwarded_for } = deps.flags.read(forwardedFlags);
  const { metadata_require_token } = deps.flags.read(tokenFlags);
  // With the shared secret every nova-api makes and takes the same tokens; without it, its own.
  const key = secret === '' ? randomBytes(32) : createHash('sha256').update(`session tokens ${secret}`).digest();
  const tokens = new SessionTokens(key);

  async function respond(req: IncomingMessage): Promise<Answer> {
    const parts = pathParts(req.url ?? '/');
    if (parts === undefined) return answer(400, 'the path is not valid percent-encoded UTF-8');
    const address = callerAddress(req, secret, use_forwarded_for);
    if (req.method === 'PUT' && parts.join('/') === 'latest/api/token') {
      // As with AWS: a proxy that strangers may use would fetch them the token, and with it what the instance is told.
      if (!use_forwarded_for && req.headers['x-forwarded-for'] !== undefined)
        return answer(403, 'a session token is not given through a proxy (X-Forwarded-For)');
      return (await instanceAt(deps.db, address))?.http_endpoint === 'disabled'
        ? DISABLED
        : issueToken(req, tokens, address);
    }
    if (req.method !== 'GET' && req.method !== 'HEAD')
      return answer(405, `${req.method} is not offered here; use GET`, { allow: 'GET, HEAD' });
    const token = req.headers['x-aws-ec2-metadata-token'];
    if (typeof token === 'string' && !tokens.isValid(token, address, clock.now()))
      return answer(401, 'the session token is not valid any more; get one with PUT /latest/api/token');
    const facts = await instanceAt(deps.db, address);
    if (facts?.http_endpoint === 'disabled') return DISABLED;
    const required = facts?.http_tokens ?? (metadata_require_token ? 'required' : 'optional');
    if (facts && token === undefined && required === 'required')
      return answer(401, 'this instance is answered with a session token only; get one with PUT /latest/api/token');
    const [version, ...below] = parts;
    if (version === undefined) return answer(200, VERSIONS.map((name) => `${name}\n`).join(''));
    if (!KNOWN.has(version)) return answer(404, `there is no version ${version}; GET / lists them`);
    if (facts === undefined) return answer(404, `${address} is not the fixed ip of an instance`);
    return look(deps.db, facts, below);
  }

  return (req, res) => {
    respond(req)
      .catch((err: unknown) => refuse(err, req, deps.log))
      .then((given) => send(res, given))
      .catch((err: unknown) => res.destroy(err instanceof Error ? err : undefined));
  };
}

const DISABLED = answer(403, 'the metadata service is turned off for this instance');

async function look(db: NovaDb, facts: InstanceFacts, parts: string[]): Promise<Answer> {
  const mpi = parts[0] === 'meta-data' && parts[1] === 'mpi' ? await mpiHosts(db, facts.project_id) : [];
  const found = walk(metadataTree(facts, mpi), parts);
  return found === undefined ? answer(404, `there is no ${parts.join('/')}`) : answer(200, found);
}

function issueToken(req: IncomingMessage, tokens: SessionTokens, address: string): Answer {
  const header = 'x-aws-ec2-metadata-token-ttl-seconds';
  const ttl_s = Number(req.headers[header] ?? Number.NaN);
  if (!Number.isInteger(ttl_s) || ttl_s < 1 || ttl_s > MAX_TTL_S)
    return answer(400, `${header} must be a whole number from 1 to ${MAX_TTL_S}`);
  return answer(200, tokens.issue(address, ttl_s, clock.now()), { [header]: String(ttl_s) });
}

function pathParts(url: string): string[] | undefined {
  try {
    return splitPath(decodeURIComponent(url.replace(/[?#].*$/s, '').replace(/^https?:\/\/[^/]*/, '')));
  } catch {
    return undefined; // URIError
  }
}

function refuse(err: unknown, req: IncomingMessage, log: Log): Answer {
  if (err instanceof NotAuthorized) {
    log.warn({ err, from: req.socket.remoteAddress }, 'metadata request with a bad proxy signature');
    return answer(err.http_status, err.message);
  }
  if (err instanceof Unavailable) {
    log.warn({ err, path: req.url, from: req.socket.remoteAddress }, 'metadata request came at a bad time');
    return answer(err.http_status, err.message);
  }
  log.error({ err, path: req.url, from: req.socket.remoteAddress }, 'metadata request failed');
  return answer(500, 'the metadata cannot be read now; try again');
}

function send(res: ServerResponse, { status, body, headers = {} }: Answer): void {
  const type = Buffer.isBuffer(body) ? 'application/octet-stream' : 'text/plain; charset=utf-8';
  res.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body), ...headers }).end(body);
}
