import { writing, type NovaDb } from '../db/connect.ts';
import { findKeyPair, insertKeyPair } from '../db/key_pairs.ts';
import { holdUser } from '../db/users.ts';
import { InvalidInput, KeyPairExists } from '../errors.ts';
import { generateSshKey, sshFingerprint } from '../ssh_key.ts';

/** Key pairs belong to a user, in whatever project; listing and deleting are in db/key_pairs.ts. */
export interface NewKeyPair {
  name: string;
  /** As `ssh-keygen -E md5 -l` prints it, with colons; also of imported keys. */
  fingerprint: string;
  public_key: string;
}

/** @returns the pair with its private key (PEM, PKCS#1), which is kept nowhere. @throws InvalidInput, KeyPairExists, UserNotFound */
export async function createKeyPair(
  db: NovaDb,
  user_id: string,
  name: string,
): Promise<NewKeyPair & { private_key: string }> {
  checkKeyName(name);
  // Asked first, since making a key is work; the insert decides all the same.
  if (await findKeyPair(db, user_id, name)) throw new KeyPairExists(`the key pair ${name} exists already`);
  const { private_key, public_key, fingerprint } = await generateSshKey('nova');
  await keep(db, { user_id, name, fingerprint, public_key });
  return { name, fingerprint, public_key, private_key };
}

/**
 * @param material an OpenSSH public key, one line, as it is or in base64 (as EC2 clients send it)
 * @throws InvalidInput, KeyPairExists, UserNotFound
 */
export async function importKeyPair(db: NovaDb, user_id: string, name: string, material: string): Promise<NewKeyPair> {
  checkKeyName(name);
  const given = material.trim();
  const public_key = given.includes(' ') ? given : Buffer.from(given, 'base64').toString('utf8').trim();
  const fingerprint = sshFingerprint(public_key);
  await keep(db, { user_id, name, fingerprint, public_key });
  return { name, fingerprint, public_key };
}

/** Not for a user who is being deleted: the next one of that name would have it. */
const keep = (db: NovaDb, pair: NewKeyPair & { user_id: string }): Promise<void> =>
  writing(db, async (tx) => {
    await holdUser(tx, pair.user_id);
    await insertKeyPair(tx, pair);
  });

/** @throws InvalidInput */
function checkKeyName(name: string): void {
  if (name.length === 0 || name.length > 255 || name.trim() !== name || /[\x00-\x1f\x7f]/.test(name))
    throw new InvalidInput(
      `'${name.slice(0, 40)}' cannot name a key pair: 1 to 255 characters, none of control, no space at the ends`,
    );
}
