import { z } from 'zod';
import { createKeyPair, importKeyPair } from '../../common/auth/key_pairs.ts';
import { deleteKeyPair, getKeyPair, listKeyPairs } from '../../common/db/key_pairs.ts';
import type { RequestContext } from '../../common/context.ts';
import { InvalidInput, KeyPairNotFound } from '../../common/errors.ts';
import { route } from './route.ts';

const NewKeypair = z.object({ keypair: z.object({ name: z.string(), public_key: z.string().nullish() }) });

function userOf(ctx: RequestContext): string {
  if (ctx.user_id === null) throw new InvalidInput('the request has no user, and key pairs belong to users');
  return ctx.user_id;
}

/** Source: Nova 2011.3 nova/api/openstack/contrib/keypairs.py */
export const keypairRoutes = [
  route({
    method: 'GET',
    path: '/os-keypairs',
    about: "The user's key pairs",
    policy: 'member',
    status: 200,
    run: ({ ctx }, { db }) => listKeyPairs(db, userOf(ctx)),
    view: (pairs) => ({
      keypairs: pairs.map(({ name, public_key, fingerprint }) => ({ keypair: { name, public_key, fingerprint } })),
    }),
  }),
  route({
    method: 'POST',
    path: '/os-keypairs',
    about: 'Makes a key pair, or takes over the public key that is given; a private key is shown once',
    policy: 'member',
    body: NewKeypair,
    status: 200,
    async run({ ctx, body }, { db }) {
      const { name, public_key } = body.keypair;
      const user_id = userOf(ctx);
      const made =
        public_key == null
          ? await createKeyPair(db, user_id, name)
          : await importKeyPair(db, user_id, name, public_key);
      return { ...made, user_id };
    },
    view: (keypair) => ({ keypair }),
  }),
  route({
    method: 'GET',
    path: '/os-keypairs/:name',
    about: 'One key pair',
    policy: 'member',
    status: 200,
    run: ({ ctx, params }, { db }) => getKeyPair(db, userOf(ctx), params.name),
    view: ({ name, public_key, fingerprint, user_id, created_at }) => ({
      keypair: { name, public_key, fingerprint, user_id, created_at, type: 'ssh' },
    }),
  }),
  route({
    method: 'DELETE',
    path: '/os-keypairs/:name',
    about: 'Forgets a key pair; instances that have it keep it',
    policy: 'member',
    status: 202,
    async run({ ctx, params }, { db }) {
      if (await deleteKeyPair(db, userOf(ctx), params.name)) return;
      throw new KeyPairNotFound(`you have no key pair ${params.name.slice(0, 255)}`);
    },
  }),
];
