import type { IncomingHttpHeaders } from 'node:http';
import type { TokenAuthenticator } from '../../common/auth/token_authenticator.ts';
import { AuthFailure } from '../../common/errors.ts';

const text = (header: string | string[] | undefined): string | undefined =>
  typeof header === 'string' && header !== '' ? header : undefined;

/**
 * A request to the version itself without a token: gives one for a user name and access key.
 * @param url of the version, `http://host:8774/v1.1`
 * @returns headers of the answer, which has no body. @throws AuthFailure
 * Source: Nova 2011.3 nova/api/openstack/auth.py, authenticate
 */
export async function handshake(
  headers: IncomingHttpHeaders,
  url: string,
  tokens: TokenAuthenticator,
): Promise<Record<string, string>> {
  const user = text(headers['x-auth-user']);
  const key = text(headers['x-auth-key']);
  if (user === undefined || key === undefined)
    throw new AuthFailure(
      'a request needs the header X-Auth-Token; to get a token, send X-Auth-User (user name) and X-Auth-Key (access key)',
    );
  const { token, project_id } = await tokens.issue(user, key, text(headers['x-auth-project-id']) ?? null);
  return {
    'X-Auth-Token': token,
    'X-Server-Management-Url': url.endsWith('/v1.0') ? url : `${url}/${encodeURIComponent(project_id)}`,
    'X-Storage-Url': '',
    'X-CDN-Management-Url': '',
  };
}
