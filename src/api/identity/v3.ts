import { z } from 'zod';
import type { Project } from '../../common/db/projects.ts';
import { AuthFailure, InvalidInput } from '../../common/errors.ts';
import { accessByPassword, accessByToken, type Access, type IdentityDeps } from './access.ts';
import { REGION, type CatalogEntry } from './catalog.ts';

/** There is one domain; Keystone's for those that came before domains. */
const DOMAIN = { id: 'default', name: 'Default' };

const Domain = z
  .object({ id: z.string().nullish(), name: z.string().nullish() })
  .nullish()
  .refine((domain) => !domain || domain.id === DOMAIN.id || domain.name?.toLowerCase() === 'default', {
    error: `is not known: there is one domain, id ${DOMAIN.id}, name ${DOMAIN.name}`,
  });
const Named = z.object({ id: z.string().nullish(), name: z.string().nullish(), domain: Domain });

/** Keystone's API, version 3, as far as logging in takes it. */
export const AuthV3 = z.object({
  auth: z.object({
    identity: z.object({
      methods: z.array(z.string()),
      password: z.object({ user: Named.extend({ password: z.string() }) }).nullish(),
      token: z.object({ id: z.string() }).nullish(),
    }),
    scope: z
      .union([
        z.object({ project: Named.nullish(), system: z.unknown().optional(), domain: z.unknown().optional() }),
        z.string(),
      ])
      .nullish(),
  }),
});

/** @throws AuthFailure, InvalidInput */
export function accessV3(deps: IdentityDeps, { auth }: z.infer<typeof AuthV3>): Promise<Access> {
  const { methods, password, token } = auth.identity;
  const scope = typeof auth.scope === 'object' ? auth.scope : null;
  if (scope?.system != null || scope?.domain != null)
    return Promise.reject(new AuthFailure('nobody has a role on the system or a domain here: the scope is a project'));
  const project = scope?.project?.id || scope?.project?.name || null;
  const user = password?.user.id || password?.user.name;
  if (methods.includes('password') && password && user)
    return accessByPassword(deps, user, password.user.password, project);
  if (methods.includes('token') && token) return accessByToken(deps, token.id, project);
  return Promise.reject(
    new InvalidInput(
      'auth.identity.methods names password or token, with what belongs to it; no other method is known',
    ),
  );
}

export const viewProject = ({ id, name, description }: Project, base: string): object => ({
  id,
  name,
  description,
  enabled: true,
  is_domain: false,
  domain_id: DOMAIN.id,
  parent_id: DOMAIN.id,
  links: { self: `${base}/v3/projects/${encodeURIComponent(id)}` },
});

export const viewCatalogV3 = (catalog: readonly CatalogEntry[]): object[] =>
  catalog.map(({ type, name, url }) => ({
    id: type,
    type,
    name,
    endpoints: ['public', 'internal', 'admin'].map((face) => ({
      id: `${type}-${face}`,
      interface: face,
      region: REGION,
      region_id: REGION,
      url,
    })),
  }));

export function viewAccessV3(access: Access, catalog: readonly CatalogEntry[]): object {
  const { id, name } = access.project;
  return {
    token: {
      methods: [access.method],
      expires_at: access.expires_at,
      issued_at: access.issued_at,
      audit_ids: [],
      user: { id: access.user_id, name: access.user_id, domain: DOMAIN, password_expires_at: null },
      project: { id, name, domain: DOMAIN },
      is_domain: false,
      roles: access.roles.map((role) => ({ id: role, name: role })),
      catalog: viewCatalogV3(catalog),
    },
  };
}
