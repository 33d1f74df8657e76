import assert from 'node:assert/strict';
import { activeRoles, addRole, authFlags, hasRole, standingOf } from '../src/common/auth/access.ts';
import { importKeyPair } from '../src/common/auth/key_pairs.ts';
import { DbTokens } from '../src/common/auth/tokens.ts';
import { writing } from '../src/common/db/connect.ts';
import { deleteImageRow, ec2ImageId } from '../src/common/db/images.ts';
import { listKeyPairs } from '../src/common/db/key_pairs.ts';
import {
  addMember,
  createProject,
  deleteProject,
  getProject,
  listProjects,
  modifyProject,
  projectMembers,
  removeMember,
} from '../src/common/db/projects.ts';
import { projectQuota, quotaFlags, setQuota } from '../src/common/db/quotas.ts';
import { deleteRole } from '../src/common/db/roles.ts';
import { ensureDefaultGroup, groupsOfProject } from '../src/common/db/security_groups.ts';
import { createUser, deleteUser, findUser, getUser, modifyUser } from '../src/common/db/users.ts';
import {
  AuthFailure,
  Conflict,
  InvalidInput,
  ProjectExists,
  ProjectNotFound,
  UserExists,
  UserNotFound,
} from '../src/common/errors.ts';
import { Flags } from '../src/common/flags.ts';
import { anImage, anInstance, aProject, aUser } from './builders.ts';
import { contractOf, type Database } from './databases.ts';

const rules = Flags.of().read(authFlags);
const RSA =
  'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAQQDYV6nUxAAqKIBHPmcU2QTsu2JsJXVbEgsgOu4dj0YEyRqEHOnYQVlOAoNeJdKNFhcWyIbDXjxP2UWTTFIBHOCB me';

/** What holds of users, projects, roles and quotas, on every database. */
export function peopleContract(database: Database): void {
  const it = contractOf(database);

  // ------------------------------------------------------------------- users

  it('a user without given keys gets two UUIDs', async (db) => {
    const { access_key, secret_key } = await createUser(db, { name: 'ann' });

    assert.match(access_key, /^[0-9a-f-]{36}$/);
    assert.match(secret_key, /^[0-9a-f-]{36}$/);
    assert.notEqual(access_key, secret_key);
    assert.equal((await getUser(db, 'ann')).secret_key, secret_key);
  });

  it('a taken user name and a taken access key are refused, each by its own error', async (db) => {
    await aUser(db, 'ann');

    await assert.rejects(createUser(db, { name: 'ann' }), UserExists);
    await assert.rejects(createUser(db, { name: 'bob', access_key: 'ann-access' }), Conflict);
    assert.equal(await findUser(db, 'bob'), undefined);
  });

  it('of twenty who ask for one name at once, one gets it', async (db) => {
    const asked = await Promise.allSettled(Array.from({ length: 20 }, () => createUser(db, { name: 'ann' })));

    const refused = asked.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
    assert.equal(refused.length, 19);
    assert.ok(refused.every((err) => err instanceof UserExists));
  });

  it('a name that would break URLs, headers or shells is refused', async (db) => {
    for (const bad of ['', ' ', 'a b', 'a:b', 'a/b', "o'neil", '-x', 'é', 'a\n', 'x'.repeat(256)])
      await assert.rejects(createUser(db, { name: bad }), InvalidInput, JSON.stringify(bad));
    await assert.rejects(createUser(db, { name: 'ann', access_key: 'a:b' }), InvalidInput);
  });

  it('modifying a user changes what is given and keeps the rest', async (db) => {
    await aUser(db, 'ann', { is_admin: true });
    await aUser(db, 'bob');

    await writing(db, (tx) => modifyUser(tx, 'ann', { secret_key: 'new', is_admin: false }));

    const { access_key, secret_key, is_admin } = await getUser(db, 'ann');
    assert.deepEqual(
      { access_key, secret_key, is_admin },
      { access_key: 'ann-access', secret_key: 'new', is_admin: 0 },
    );
    await assert.rejects(
      writing(db, (tx) => modifyUser(tx, 'ann', { access_key: 'bob-access' })),
      Conflict,
    );
    await assert.rejects(
      writing(db, (tx) => modifyUser(tx, 'eve', { is_admin: true })),
      UserNotFound,
    );
  });

  it('a deleted user leaves no membership, role, key pair or token to the next one of that name', async (db) => {
    await aProject(db, 'apollo', 'ann');
    await aUser(db, 'bob');
    await writing(db, (tx) => addMember(tx, 'apollo', 'bob'));
    await addRole(db, rules, { user: 'bob', role: 'sysadmin', project: null });
    await addRole(db, rules, { user: 'bob', role: 'sysadmin', project: 'apollo' });
    await importKeyPair(db, 'bob', 'laptop', RSA);
    const { token } = await new DbTokens({ db, flags: Flags.of() }).issue('bob', 'bob-access', null);

    await writing(db, (tx) => deleteUser(tx, 'bob'));
    await aUser(db, 'bob');

    const standing = await standingOf(db, 'bob', 'apollo');
    assert.equal(standing.member, false);
    assert.deepEqual(standing.held, { global: [], project: [] });
    assert.deepEqual(await listKeyPairs(db, 'bob'), []);
    await assert.rejects(new DbTokens({ db, flags: Flags.of() }).check(token, null), AuthFailure);
    await assert.rejects(
      writing(db, (tx) => deleteUser(tx, 'eve')),
      UserNotFound,
    );
  });

  it('a user who manages a project is not deleted, and nothing of it changes', async (db) => {
    await aProject(db, 'apollo', 'ann');
    await importKeyPair(db, 'ann', 'laptop', RSA);

    await assert.rejects(
      writing(db, (tx) => deleteUser(tx, 'ann')),
      /ann manages apollo/,
    );

    assert.equal((await getUser(db, 'ann')).id, 'ann');
    assert.equal((await listKeyPairs(db, 'ann')).length, 1);
  });

  // ---------------------------------------------------------------- projects

  it("a project's manager is a member, its description defaults to its name", async (db) => {
    await aUser(db, 'ann');

    await writing(db, (tx) => createProject(tx, { name: 'web', manager: 'ann' }));

    const { description, project_manager } = await getProject(db, 'web');
    assert.deepEqual({ description, project_manager }, { description: 'web', project_manager: 'ann' });
    assert.deepEqual(await projectMembers(db, 'web'), ['ann']);
    assert.deepEqual(
      (await listProjects(db, 'ann')).map((project) => project.id),
      ['web'],
    );
  });

  it('a project of unknown people or of a taken name is refused whole', async (db) => {
    await aProject(db, 'apollo', 'ann');

    await assert.rejects(
      writing(db, (tx) => createProject(tx, { name: 'web', manager: 'eve' })),
      UserNotFound,
    );
    await assert.rejects(
      writing(db, (tx) => createProject(tx, { name: 'web', manager: 'ann', members: ['eve'] })),
      UserNotFound,
    );
    await assert.rejects(
      writing(db, (tx) => createProject(tx, { name: 'apollo', manager: 'ann' })),
      ProjectExists,
    );
    assert.deepEqual(
      (await listProjects(db)).map((project) => project.id),
      ['apollo'],
    );
  });

  it('a new manager becomes a member; the manager cannot be removed', async (db) => {
    await aProject(db, 'apollo', 'ann');
    await aUser(db, 'bob');

    await writing(db, (tx) => modifyProject(tx, 'apollo', { manager: 'bob' }));

    assert.deepEqual(await projectMembers(db, 'apollo'), ['ann', 'bob']);
    await assert.rejects(
      writing(db, (tx) => removeMember(tx, 'apollo', 'bob')),
      /bob manages apollo/,
    );
    await writing(db, (tx) => removeMember(tx, 'apollo', 'ann'));
    assert.deepEqual(await projectMembers(db, 'apollo'), ['bob']);
  });

  it('a project with instances is not deleted; without, its roles and quotas go with it', async (db) => {
    await aProject(db, 'apollo', 'ann');
    await addRole(db, rules, { user: 'ann', role: 'netadmin', project: 'apollo' });
    await writing(db, (tx) => setQuota(tx, 'apollo', 'instances', 3));
    const id = await anInstance(db);
    await assert.rejects(
      writing(db, (tx) => deleteProject(tx, 'apollo')),
      /apollo has 1 instances/,
    );
    await db.updateTable('instances').set({ deleted: 1 }).where('id', '=', id).execute();

    await writing(db, (tx) => deleteProject(tx, 'apollo'));

    await assert.rejects(getProject(db, 'apollo'), ProjectNotFound);
    await writing(db, (tx) => createProject(tx, { name: 'apollo', manager: 'ann' }));
    assert.equal((await projectQuota(db, Flags.of().read(quotaFlags), 'apollo')).instances, 10);
    assert.deepEqual((await standingOf(db, 'ann', 'apollo')).held.project, []);
  });

  it('a deleted project leaves no security group to the next one of that name', async (db) => {
    await aProject(db, 'apollo', 'ann');
    await aProject(db, 'gemini', 'bob');
    for (const project_id of ['apollo', 'gemini']) await ensureDefaultGroup(db, project_id, 'ann');
    const [open] = await groupsOfProject(db, 'apollo');
    const rule = { protocol: 'tcp', from_port: 22, to_port: 22, cidr: '0.0.0.0/0', group_id: null };
    await db
      .insertInto('security_group_rules')
      .values({ ...rule, parent_group_id: open?.id ?? 0, created_at: '2011-04-15T00:00:00.000Z' })
      .execute();

    await writing(db, (tx) => deleteProject(tx, 'apollo'));
    await writing(db, (tx) => createProject(tx, { name: 'apollo', manager: 'ann' }));

    assert.deepEqual(await groupsOfProject(db, 'apollo'), []);
    assert.deepEqual(await db.selectFrom('security_group_rules').select('id').where('deleted', '=', 0).execute(), []);
    assert.equal((await groupsOfProject(db, 'gemini')).length, 1);
  });

  it('a project with images is not deleted, and they are named', async (db) => {
    await aProject(db, 'apollo', 'ann');
    const id = await anImage(db, { is_public: 0 });
    const kernel = await anImage(db, { container_format: 'aki', status: 'error' });
    await anImage(db, { project_id: 'gemini' });

    await assert.rejects(
      writing(db, (tx) => deleteProject(tx, 'apollo')),
      {
        name: 'Conflict',
        message: `apollo has 2 images: delete them first: ${ec2ImageId(id)}, ${ec2ImageId(kernel, 'aki')}`,
      },
    );
    for (const image of [id, kernel]) await deleteImageRow(db, image);
    await writing(db, (tx) => deleteProject(tx, 'apollo'));
  });

  it('a user deleted while a project is made for it leaves no project without a manager', async (db) => {
    for (let i = 0; i < 20; i++) {
      await aUser(db, `u${i}`);
      await Promise.allSettled([
        writing(db, (tx) => createProject(tx, { name: `p${i}`, manager: `u${i}` })),
        writing(db, (tx) => deleteUser(tx, `u${i}`)),
      ]);
    }
    for (const project of await listProjects(db)) assert.ok(await findUser(db, project.project_manager), project.id);
  });

  // ------------------------------------------------------------------- roles

  it('a role is added twice without harm, and only once taken', async (db) => {
    await aUser(db, 'ann');
    const role = { user: 'ann', role: 'sysadmin', project: null };
    await addRole(db, rules, role);
    await addRole(db, rules, role);

    assert.equal(await deleteRole(db, 'ann', 'sysadmin', null), true);
    assert.equal(await deleteRole(db, 'ann', 'sysadmin', null), false);
  });

  it('a role in a project is for its members', async (db) => {
    await aProject(db, 'apollo', 'ann');
    await aUser(db, 'bob');

    await assert.rejects(addRole(db, rules, { user: 'bob', role: 'sysadmin', project: 'apollo' }), /no member/);

    assert.deepEqual((await standingOf(db, 'bob', 'apollo')).held.project, []);
  });

  it('sysadmin needs both the global and the project role', async (db) => {
    await aProject(db, 'apollo', 'ann');
    await aUser(db, 'bob');
    await writing(db, (tx) => addMember(tx, 'apollo', 'bob'));
    const acts = async () => hasRole(await standingOf(db, 'bob', 'apollo'), 'sysadmin', rules);

    await addRole(db, rules, { user: 'bob', role: 'sysadmin', project: 'apollo' });
    const with_project_role = await acts();
    await addRole(db, rules, { user: 'bob', role: 'sysadmin', project: null });
    const with_both = await acts();
    await deleteRole(db, 'bob', 'sysadmin', 'apollo');

    assert.deepEqual([with_project_role, with_both, await acts()], [false, true, false]);
    assert.deepEqual(activeRoles(await standingOf(db, 'ann', 'apollo'), rules), ['projectmanager']);
  });

  // ------------------------------------------------------------------ quotas

  it("a project's own limit holds before the flag's; null and -1 are no limit", async (db) => {
    await aProject(db, 'apollo');
    const flags = Flags.of({ quota_cores: -1, quota_volumes: 7 }).read(quotaFlags);

    await writing(db, (tx) => setQuota(tx, 'apollo', 'instances', 5));
    await writing(db, (tx) => setQuota(tx, 'apollo', 'instances', 2));
    await writing(db, (tx) => setQuota(tx, 'apollo', 'ram', null));

    const { instances, cores, ram, volumes } = await projectQuota(db, flags, 'apollo');
    assert.deepEqual({ instances, cores, ram, volumes }, { instances: 2, cores: null, ram: null, volumes: 7 });
    await assert.rejects(
      writing(db, (tx) => setQuota(tx, 'eve', 'instances', 1)),
      ProjectNotFound,
    );
  });
}
