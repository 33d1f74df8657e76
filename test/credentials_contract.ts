import assert from 'node:assert/strict';
import { addRole, authFlags } from '../src/common/auth/access.ts';
import { DbAuthenticator } from '../src/common/auth/db_authenticator.ts';
import { createKeyPair, importKeyPair } from '../src/common/auth/key_pairs.ts';
import { DbTokens } from '../src/common/auth/tokens.ts';
import { clock } from '../src/common/clock.ts';
import { writing } from '../src/common/db/connect.ts';
import { deleteKeyPair, getKeyPair } from '../src/common/db/key_pairs.ts';
import { addMember, createProject, getProject, removeMember } from '../src/common/db/projects.ts';
import { modifyUser } from '../src/common/db/users.ts';
import { AuthFailure, InvalidInput, KeyPairExists, KeyPairNotFound, UserNotFound } from '../src/common/errors.ts';
import { Flags } from '../src/common/flags.ts';
import { aProject, aUser } from './builders.ts';
import { contractOf, type Database } from './databases.ts';

const rules = Flags.of().read(authFlags);
const RSA =
  'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAQQDYV6nUxAAqKIBHPmcU2QTsu2JsJXVbEgsgOu4dj0YEyRqEHOnYQVlOAoNeJdKNFhcWyIbDXjxP2UWTTFIBHOCB me';

/** What holds of key pairs, access keys and tokens, on every database. */
export function credentialsContract(database: Database): void {
  const it = contractOf(database);

  // --------------------------------------------------------------- key pairs

  it('a made key pair keeps no private key, and its name is taken until it is deleted', async (db) => {
    await aUser(db, 'ann');

    const { private_key, fingerprint } = await createKeyPair(db, 'ann', 'laptop');

    assert.match(private_key, /^-----BEGIN RSA PRIVATE KEY-----/);
    const kept = await getKeyPair(db, 'ann', 'laptop');
    assert.equal(kept.fingerprint, fingerprint);
    assert.ok(!JSON.stringify(kept).includes('PRIVATE'));
    await assert.rejects(createKeyPair(db, 'ann', 'laptop'), KeyPairExists);
    await assert.rejects(importKeyPair(db, 'ann', 'laptop', RSA), KeyPairExists);
    assert.equal(await deleteKeyPair(db, 'ann', 'laptop'), true);
    assert.equal(await deleteKeyPair(db, 'ann', 'laptop'), false);
    await assert.rejects(getKeyPair(db, 'ann', 'laptop'), KeyPairNotFound);
    await importKeyPair(db, 'ann', 'laptop', RSA);
  });

  it('a public key is imported as it is and in base64; what is none is refused', async (db) => {
    await aUser(db, 'ann');

    const plain = await importKeyPair(db, 'ann', 'a', `${RSA}\n`);
    const encoded = await importKeyPair(db, 'ann', 'b', Buffer.from(RSA).toString('base64'));

    assert.equal(plain.fingerprint, encoded.fingerprint);
    assert.equal((await getKeyPair(db, 'ann', 'b')).public_key, RSA);
    for (const bad of ['', 'ssh-rsa', 'ssh-rsa AAAA me', 'bm90IGEga2V5', `${RSA}\n${RSA}`])
      await assert.rejects(importKeyPair(db, 'ann', 'c', bad), InvalidInput, bad);
    await assert.rejects(importKeyPair(db, 'ann', '', RSA), InvalidInput);
    await assert.rejects(importKeyPair(db, 'eve', 'c', RSA), UserNotFound);
  });

  // ------------------------------------------------------------- access keys

  it("an access key alone means the project of the user's name, with :PROJECT that one", async (db) => {
    await aProject(db, 'apollo', 'ann');
    const authenticator = () => new DbAuthenticator({ db, flags: Flags.of() });

    await assert.rejects(authenticator().identify('ann-access'), AuthFailure);
    await writing(db, (tx) => createProject(tx, { name: 'ann', manager: 'ann' }));

    assert.equal((await authenticator().identify('ann-access')).project_id, 'ann');
    assert.deepEqual(await authenticator().identify('ann-access:apollo'), {
      user_id: 'ann',
      project_id: 'apollo',
      project_created_at: (await getProject(db, 'apollo')).created_at,
      is_admin: false,
      is_superuser: false,
      is_member: true,
      roles: ['projectmanager'],
      secret_key: 'ann-secret',
    });
    await assert.rejects(authenticator().identify('ann-access:'), AuthFailure);
    await assert.rejects(authenticator().identify('nobody:apollo'), AuthFailure);
  });

  it('an outsider is refused, an administrator may use every existing project', async (db) => {
    await aProject(db, 'apollo', 'ann');
    await aUser(db, 'bob');
    await aUser(db, 'root', { is_admin: true });
    await aUser(db, 'sec');
    await addRole(db, rules, { user: 'sec', role: 'itsec', project: null });
    const authenticator = new DbAuthenticator({ db, flags: Flags.of() });

    await assert.rejects(authenticator.identify('bob-access:apollo'), /bob is no member/);
    const root = await authenticator.identify('root-access:apollo');
    const sec = await authenticator.identify('sec-access:apollo');

    assert.deepEqual([root.is_admin, root.is_superuser, root.is_member], [true, true, false]);
    assert.ok(['sysadmin', 'netadmin', 'cloudadmin', 'projectmanager'].every((role) => root.roles.includes(role)));
    assert.deepEqual([sec.is_admin, sec.is_superuser, sec.is_member, sec.roles], [true, false, false, ['itsec']]);
    await assert.rejects(authenticator.identify('root-access:nowhere'), AuthFailure);
  });

  it('who is removed from a project is refused there', async (db) => {
    await aProject(db, 'apollo', 'ann');
    await aUser(db, 'bob');
    await writing(db, (tx) => addMember(tx, 'apollo', 'bob'));
    assert.equal((await new DbAuthenticator({ db, flags: Flags.of() }).identify('bob-access:apollo')).user_id, 'bob');

    await writing(db, (tx) => removeMember(tx, 'apollo', 'bob'));

    await assert.rejects(new DbAuthenticator({ db, flags: Flags.of() }).identify('bob-access:apollo'), AuthFailure);
  });

  // ------------------------------------------------------------------ tokens

  it("a token is for a user's access key or secret key, and nobody else's", async (db) => {
    await aProject(db, 'apollo', 'ann');
    await aUser(db, 'bob');
    const tokens = new DbTokens({ db, flags: Flags.of() });

    const by_access = await tokens.issue('ann', 'ann-access', null);
    const by_secret = await tokens.issue('ann', 'ann-secret', 'apollo');

    assert.equal(by_access.project_id, 'apollo');
    assert.deepEqual(await tokens.check(by_access.token, null), {
      user_id: 'ann',
      project_id: 'apollo',
      is_admin: false,
      is_superuser: false,
      is_member: true,
      roles: ['projectmanager'],
    });
    assert.equal((await tokens.check(by_secret.token, 'apollo')).user_id, 'ann');
    for (const [user, key, project] of [
      ['ann', 'bob-access', null],
      ['eve', 'ann-access', null],
      ['bob', 'bob-access', null],
      ['bob', 'bob-access', 'apollo'],
      ['ann', 'ann-access', 'nowhere'],
    ] as const)
      await assert.rejects(tokens.issue(user, key, project), AuthFailure, `${user} ${key} ${project}`);
    await assert.rejects(tokens.check(by_access.token, 'nowhere'), AuthFailure);
    await assert.rejects(tokens.check('made up', null), AuthFailure);
  });

  it('a new key ends the tokens of its user, and of nobody else', async (db) => {
    await aProject(db, 'apollo', 'ann');
    await aProject(db, 'gemini', 'bob');
    const tokens = () => new DbTokens({ db, flags: Flags.of() });
    const bob = await tokens().issue('bob', 'bob-access', null);

    for (const change of [{ secret_key: 'new-secret' }, { access_key: 'new-access' }]) {
      const ann = await tokens().issue('ann', 'ann-access', null);
      await writing(db, (tx) => modifyUser(tx, 'ann', { is_admin: false }));
      assert.equal((await tokens().check(ann.token, null)).user_id, 'ann');
      await writing(db, (tx) => modifyUser(tx, 'ann', change));
      await assert.rejects(tokens().check(ann.token, null), AuthFailure);
    }
    assert.equal((await tokens().check(bob.token, null)).user_id, 'bob');
  });

  it('the database holds no token, only its hash', async (db) => {
    await aProject(db, 'apollo', 'ann');

    const { token } = await new DbTokens({ db, flags: Flags.of() }).issue('ann', 'ann-access', null);

    const rows = await db.selectFrom('auth_tokens').selectAll().execute();
    assert.equal(rows.length, 1);
    assert.ok(!JSON.stringify(rows).includes(token));
  });

  it('a token ends after --auth_token_ttl, and its row goes', async (db, _all, t) => {
    await aProject(db, 'apollo', 'ann');
    const tokens = () => new DbTokens({ db, flags: Flags.of({ auth_token_ttl: 60 }) });
    const { token } = await tokens().issue('ann', 'ann-access', null);
    let later_s = 58;
    t.mock.method(clock, 'now', () => new Date(Date.now() + later_s * 1000)); // once: a second mock would restore the first
    assert.equal((await tokens().check(token, null)).user_id, 'ann');
    later_s = 62;
    await assert.rejects(tokens().check(token, null), /expired/);

    assert.deepEqual(await db.selectFrom('auth_tokens').select('user_id').execute(), []);
  });
}
