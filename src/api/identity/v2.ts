import { z } from 'zod';
import type { Project } from '../../common/db/projects.ts';
import { InvalidInput } from '../../common/errors.ts';
import { accessByPassword, accessByToken, type Access, type IdentityDeps } from './access.ts';
import { REGION, type CatalogEntry } from './catalog.ts';

const Credentials = z.object({ username: z.string(), password: z.string() });

/** Keystone's API of 2012, version 2.0: what the first clients with a service catalog speak. */
export const AuthV2 = z.object({
  auth: z.object({
    passwordCredentials: Credentials.nullish(),
    token: z.object({ id: z.string() }).nullish(),
    tenantName: z.string().nullish(),
    tenantId: z.string().nullish(),
  }),
});

/** @throws AuthFailure, InvalidInput */
export function accessV2(deps: IdentityDeps, { auth }: z.infer<typeof AuthV2>): Promise<Access> {
  const project = auth.tenantId || auth.tenantName || null;
  if (auth.passwordCredentials)
    return accessByPassword(deps, auth.passwordCredentials.username, auth.passwordCredentials.password, project);
  if (auth.token) return accessByToken(deps, auth.token.id, project);
  return Promise.reject(new InvalidInput('auth has passwordCredentials or a token'));
}

export const viewTenant = ({ id, name, description }: Project): object => ({ id, name, description, enabled: true });

export function viewAccessV2(access: Access, catalog: readonly CatalogEntry[]): object {
  return {
    access: {
      token: {
        id: access.token,
        expires: access.expires_at,
        issued_at: access.issued_at,
        tenant: viewTenant(access.project),
      },
      user: {
        id: access.user_id,
        name: access.user_id,
        username: access.user_id,
        roles: access.roles.map((name) => ({ id: name, name })),
        roles_links: [],
      },
      serviceCatalog: catalog.map(({ type, name, url }) => ({
        type,
        name,
        endpoints: [{ id: type, region: REGION, publicURL: url, internalURL: url, adminURL: url }],
        endpoints_links: [],
      })),
      metadata: { is_admin: access.roles.includes('admin') ? 1 : 0, roles: access.roles },
    },
  };
}
