import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  activeRoles,
  addRole,
  authFlags,
  hasRole,
  isAdmin,
  isSuperuser,
  type Standing,
} from '../../../../src/common/auth/access.ts';
import { GlobalRoleNotAllowed, UserRoleNotFound } from '../../../../src/common/errors.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { aDatabase, aProject } from '../../../builders.ts';

const rules = Flags.of().read(authFlags);

/** bob, who is a member of ann's project apollo. */
function bob(held: { global?: string[]; project?: string[]; is_admin?: number; manager?: string }): Standing {
  const { global = [], project = [], is_admin = 0, manager = 'ann' } = held;
  const created_at = '2011-04-15T00:00:00.000Z';
  return {
    user: { id: 'bob', name: 'bob', access_key: 'a', secret_key: 's', is_admin, created_at },
    project: { id: 'apollo', name: 'apollo', description: '', project_manager: manager, created_at },
    member: true,
    held: { global, project },
  };
}
const somewhere = (standing: Standing): Standing => ({
  ...standing,
  project: null,
  held: { ...standing.held, project: [] },
});

test('a member with no role acts in none', () => {
  assert.deepEqual(activeRoles(bob({}), rules), []);
});

test('the role of a project counts only where it is also held everywhere, and the other way round', () => {
  assert.equal(hasRole(bob({ project: ['sysadmin'] }), 'sysadmin', rules), false);
  assert.equal(hasRole(bob({ global: ['sysadmin'] }), 'sysadmin', rules), false);
  assert.equal(hasRole(bob({ global: ['sysadmin'], project: ['sysadmin'] }), 'sysadmin', rules), true);
  assert.equal(hasRole(somewhere(bob({ global: ['sysadmin'] })), 'sysadmin', rules), true);
});

test('a role of --global_roles is held everywhere at once', () => {
  assert.equal(hasRole(bob({ global: ['itsec'] }), 'itsec', rules), true);
});

test("a project's manager acts as projectmanager there, and in no other role", () => {
  assert.deepEqual(activeRoles(bob({ manager: 'bob' }), rules), ['projectmanager']);
  assert.equal(hasRole(somewhere(bob({ manager: 'bob' })), 'projectmanager', rules), false);
});

test('cloudadmin and the admin flag make a superuser; itsec makes an administrator who is none', () => {
  for (const superuser of [bob({ is_admin: 1 }), bob({ global: ['cloudadmin'] })]) {
    assert.equal(isSuperuser(superuser, rules), true);
    assert.equal(isAdmin(superuser, rules), true);
    assert.deepEqual(activeRoles(superuser, rules), [...rules.allowed_roles, 'projectmanager']);
  }
  const itsec = bob({ global: ['itsec'] });
  assert.equal(isSuperuser(itsec, rules), false);
  assert.equal(isAdmin(itsec, rules), true);
  assert.deepEqual(activeRoles(itsec, rules), ['itsec']);
});

test('the rules are flags', () => {
  const own = Flags.of({ allowed_roles: ['boss', 'sysadmin'], superuser_roles: ['boss'], global_roles: ['boss'] });

  assert.equal(isSuperuser(bob({ global: ['boss'] }), own.read(authFlags)), true);
  assert.equal(isSuperuser(bob({ global: ['cloudadmin'] }), own.read(authFlags)), false);
});

test('an unknown role, and a global role in a project, are refused by name', async (t) => {
  const db = await aDatabase(t);
  await aProject(db, 'apollo', 'ann');

  await assert.rejects(addRole(db, rules, { user: 'ann', role: 'king', project: null }), UserRoleNotFound);
  await assert.rejects(addRole(db, rules, { user: 'ann', role: 'king', project: null }), /the roles are cloudadmin, /);
  await assert.rejects(
    addRole(db, rules, { user: 'ann', role: 'cloudadmin', project: 'apollo' }),
    GlobalRoleNotAllowed,
  );
});
