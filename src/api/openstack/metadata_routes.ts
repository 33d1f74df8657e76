import { z } from 'zod';
import { InvalidInput, NotFound } from '../../common/errors.ts';
import { route, type OsRequest, type Route, type RouteDeps } from './route.ts';
import { Metadata } from './server_body.ts';

type Pairs = Record<string, string>;
type Of = OsRequest<{ id: string }>;

/** Something that has metadata. */
export interface HasMetadata {
  path: '/servers/:id' | '/images/:id' | '/volumes/:id';
  /** For people. */
  what: 'server' | 'image' | 'volume';
  /** Of an answer to DELETE. */
  deleted: 200 | 204;
  read(req: Of, deps: RouteDeps): Promise<Pairs>;
  /** @param replace what is not in `pairs` goes. @returns all that it has then */
  write(req: Of, deps: RouteDeps, pairs: Pairs, replace: boolean): Promise<Pairs>;
  /** @returns false when it had none of that key */
  remove(req: Of, deps: RouteDeps, key: string): Promise<boolean>;
}

/** Source: Nova 2011.3 nova/api/openstack/server_metadata.py, image_metadata.py; Cinder's of volumes is the same */
export function metadataRoutes({ path, what, deleted, read, write, remove }: HasMetadata): Route[] {
  const all = `${path}/metadata` as const;
  const one = `${all}/:key` as const;
  const noKey = ({ id, key }: { id: string; key: string }) =>
    new NotFound(`${what} ${id} has no metadata ${key.slice(0, 255)}`);
  return [
    route({
      method: 'GET',
      path: all,
      about: `Metadata of a ${what}`,
      policy: 'member',
      status: 200,
      run: read,
      view: (metadata) => ({ metadata }),
    }),
    route({
      method: 'POST',
      path: all,
      about: 'Adds to the metadata, or changes it',
      policy: 'member',
      body: z.object({ metadata: Metadata }),
      status: 200,
      run: (req, deps) => write(req, deps, req.body.metadata, false),
      view: (metadata) => ({ metadata }),
    }),
    route({
      method: 'PUT',
      path: all,
      about: 'Replaces the metadata',
      policy: 'member',
      body: z.object({ metadata: Metadata }),
      status: 200,
      run: (req, deps) => write(req, deps, req.body.metadata, true),
      view: (metadata) => ({ metadata }),
    }),
    route({
      method: 'GET',
      path: one,
      about: 'One value of the metadata',
      policy: 'member',
      status: 200,
      async run(req, deps) {
        const metadata = await read(req, deps);
        const { key } = req.params;
        if (!Object.hasOwn(metadata, key)) throw noKey(req.params);
        return { [key]: metadata[key] };
      },
      view: (meta) => ({ meta }),
    }),
    route({
      method: 'PUT',
      path: one,
      about: 'Sets one value of the metadata',
      policy: 'member',
      body: z.object({ meta: Metadata }),
      status: 200,
      async run(req, deps) {
        const { meta } = req.body;
        const [key, ...others] = Object.keys(meta);
        if (key !== req.params.key || others.length > 0)
          throw new InvalidInput(`meta has exactly one key, the one in the URL: ${req.params.key.slice(0, 255)}`);
        await write(req, deps, meta, false);
        return meta;
      },
      view: (meta) => ({ meta }),
    }),
    route({
      method: 'DELETE',
      path: one,
      about: 'Takes one value out of the metadata',
      policy: 'member',
      status: deleted,
      async run(req, deps) {
        if (!(await remove(req, deps, req.params.key))) throw noKey(req.params);
      },
    }),
  ];
}
