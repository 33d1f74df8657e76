import type { Link } from './urls.ts';

interface Version {
  id: string;
  /** What stands in the URL. */
  path: string;
  status: 'CURRENT' | 'SUPPORTED' | 'DEPRECATED';
  updated: string;
}
/**
 * Source: Nova 2011.3 nova/api/openstack/versions.py. Essex gave 1.1 the second name 2.0 and changed nothing else; it is the
 * lowest that clients of today know.
 */
const VERSIONS: readonly Version[] = [
  { id: 'v1.1', path: 'v1.1', status: 'CURRENT', updated: '2011-01-21T11:33:21Z' },
  { id: 'v1.0', path: 'v1.0', status: 'DEPRECATED', updated: '2011-01-21T11:33:21Z' },
  { id: 'v2.0', path: 'v2', status: 'SUPPORTED', updated: '2011-01-21T11:33:21Z' },
];

export const isVersion = (part: string): boolean => VERSIONS.some(({ path }) => path === part);

const JSON_TYPE = (id: string) => ({
  base: 'application/json',
  type: `application/vnd.openstack.compute-${id}+json`,
});

const describe = (base: string, { path, ...version }: Version): object => ({
  ...version,
  links: [self(`${base}/${path}/`)],
});

/** `GET /` */
export const viewVersions = (base: string): object => ({
  versions: VERSIONS.map((version) => describe(base, version)),
});

/** `GET /v1.1/` with a token. */
export const viewVersion = (base: string, part: string): object => ({
  version: VERSIONS.filter(({ path }) => path === part).map((version) => ({
    ...describe(base, version),
    'media-types': [JSON_TYPE(version.id)],
  }))[0],
});

/** For a path without a version: the same path in each. */
export const viewChoices = (base: string, path: string): object => ({
  choices: VERSIONS.map(({ id, path: version, status }) => ({
    id,
    status,
    links: [self(`${base}/${version}${path}`)],
    'media-types': [JSON_TYPE(id)],
  })),
});

const self = (href: string): Link => ({ rel: 'self', href });
