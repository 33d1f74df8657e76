import { createKeyPair as makeKeyPair, importKeyPair as keepKeyPair } from '../../common/auth/key_pairs.ts';
import type { RequestContext } from '../../common/context.ts';
import { deleteKeyPair as forgetKeyPair, findKeyPair, listKeyPairs, type KeyPair } from '../../common/db/key_pairs.ts';
import type { NovaDb } from '../../common/db/connect.ts';
import { InvalidInput, KeyPairNotFound } from '../../common/errors.ts';
import { action } from './deps.ts';
import { filters, matcher, type Fields } from './filters.ts';
import { formatId, parseId } from './ids.ts';
import { ec2Time } from './instance_view.ts';
import { base64, list, optional, str, word } from './params.ts';

/** Key pairs belong to a user, whatever the project. */
function userOf(ctx: RequestContext): string {
  if (ctx.user_id === null) throw new InvalidInput('the request has no user, and key pairs belong to users');
  return ctx.user_id;
}
const keyId = (pair: KeyPair): string => formatId('key', pair.id);
const keyIdOf = async (db: NovaDb, user_id: string, name: string) => {
  const pair = await findKeyPair(db, user_id, name);
  return pair && keyId(pair);
};

const FIELDS: Fields<KeyPair> = {
  'key-name': ({ name }) => name,
  'key-pair-id': keyId,
  fingerprint: ({ fingerprint }) => fingerprint,
};

export const describeKeyPairs = action('DescribeKeyPairs', {
  about: "The user's key pairs",
  params: { KeyName: list(str()), KeyPairId: list(str()), Filter: filters() },
  roles: 'all',
  async run(ctx, { KeyName, KeyPairId, Filter }, { db, settings }) {
    const matches = matcher(Filter, FIELDS);
    // Those of VPN instances are not the user's to use.
    const hidden = ({ name }: KeyPair) => !ctx.is_admin && name.endsWith(settings.vpn_key_suffix);
    const known = (await listKeyPairs(db, userOf(ctx))).filter((pair) => !hidden(pair));
    const missing =
      KeyName.find((name) => !known.some((pair) => pair.name === name)) ??
      KeyPairId.find((id) => !known.some((pair) => keyId(pair) === id));
    if (missing !== undefined) throw new KeyPairNotFound(`user ${ctx.user_id} has no key pair ${missing}`);
    const pairs = known.filter(
      (pair) =>
        (KeyName.length === 0 || KeyName.includes(pair.name)) &&
        (KeyPairId.length === 0 || KeyPairId.includes(keyId(pair))) &&
        matches(pair),
    );
    return {
      keySet: pairs.map((pair) => ({
        keyName: pair.name,
        keyFingerprint: pair.fingerprint,
        keyPairId: keyId(pair),
        keyType: pair.public_key.startsWith('ssh-ed25519 ') ? 'ed25519' : 'rsa',
        createTime: ec2Time(pair.created_at),
        tagSet: [],
      })),
    };
  },
});

export const createKeyPair = action('CreateKeyPair', {
  about: 'Makes an RSA key pair; its private key is shown once and kept nowhere',
  params: { KeyName: str(), KeyType: optional(word(['rsa'])), KeyFormat: optional(word(['pem'])) },
  not_offered: ['TagSpecification'],
  roles: 'all',
  async run(ctx, { KeyName }, { db }) {
    const pair = await makeKeyPair(db, userOf(ctx), KeyName);
    return {
      keyName: pair.name,
      keyFingerprint: pair.fingerprint,
      keyMaterial: pair.private_key,
      keyPairId: await keyIdOf(db, userOf(ctx), pair.name),
    };
  },
});

const PUBLIC_KEY_BYTES = 16 * 1024;

/** AWS's way to bring one's own key. */
export const importKeyPair = action('ImportKeyPair', {
  about: 'Takes over a public key, sent in base64',
  params: { KeyName: str(), PublicKeyMaterial: base64({ max_bytes: PUBLIC_KEY_BYTES }) },
  not_offered: ['TagSpecification'],
  roles: 'all',
  async run(ctx, { KeyName, PublicKeyMaterial }, { db }) {
    const pair = await keepKeyPair(db, userOf(ctx), KeyName, PublicKeyMaterial.toString());
    return {
      keyName: pair.name,
      keyFingerprint: pair.fingerprint,
      keyPairId: await keyIdOf(db, userOf(ctx), pair.name),
    };
  },
});

/** The same as Diablo had it: the key as plain text; the fingerprint is read from the key. */
export const importPublicKey = action('ImportPublicKey', {
  about: "Takes over a public key, sent as it is: Diablo's name for it",
  params: { KeyName: str(), PublicKey: str({ max: PUBLIC_KEY_BYTES }) },
  roles: 'all',
  async run(ctx, { KeyName, PublicKey }, { db }) {
    await keepKeyPair(db, userOf(ctx), KeyName, PublicKey);
    return { return: true };
  },
});

export const deleteKeyPair = action('DeleteKeyPair', {
  about: 'Forgets a key pair, or does nothing when there is none',
  params: { KeyName: optional(str()), KeyPairId: optional(str()) },
  roles: 'all',
  async run(ctx, { KeyName, KeyPairId }, { db }) {
    if ((KeyName === undefined) === (KeyPairId === undefined)) {
      throw new InvalidInput('name one key pair: by KeyName, or by KeyPairId');
    }
    const id = KeyPairId === undefined ? undefined : parseId(['key'], KeyPairId);
    const name = KeyName ?? (await listKeyPairs(db, userOf(ctx))).find((pair) => pair.id === id)?.name;
    if (name !== undefined) await forgetKeyPair(db, userOf(ctx), name); // one that is not there is gone, as asked
    return { return: true };
  },
});
