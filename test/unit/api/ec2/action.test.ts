import assert from 'node:assert/strict';
import { test } from 'node:test';
import { actionsOver, actionTable, authorize, findAction } from '../../../../src/api/ec2/action.ts';
import { DryRunOperation, InvalidAction } from '../../../../src/api/ec2/errors.ts';
import { str } from '../../../../src/api/ec2/params.ts';
import { nest, parseParams } from '../../../../src/api/ec2/query.ts';
import { makeContext } from '../../../../src/common/context.ts';
import { PolicyNotAuthorized } from '../../../../src/common/errors.ts';

const action = actionsOver<{ greeting: string }>();
const greet = action('GreetSomeone', {
  about: 'Says hello',
  params: { Name: str() },
  roles: 'all',
  run: (_ctx, { Name }, { greeting }) => Promise.resolve({ text: `${greeting} ${Name}` }),
});
const sent = (query: string) => nest(parseParams(query, Buffer.alloc(0)));

test('an action runs with its parameters and what it depends on', async () => {
  const table = actionTable([greet]);

  const answer = await findAction(table, 'GreetSomeone').call(makeContext(), sent('Name=ann&Else=1'), {
    greeting: 'hi',
  });

  assert.deepEqual(answer, { text: 'hi ann' });
});

test('an unknown action is refused with the nearest that there is', () => {
  assert.throws(
    () => findAction(actionTable([greet]), 'GreetAnyone'),
    (err) => err instanceof InvalidAction && /no action GreetAnyone; nearest: GreetSomeone/.test(err.message),
  );
  assert.throws(() => actionTable([greet, greet]), /two actions are named GreetSomeone/);
});

test('DryRun checks the parameters and does nothing', async () => {
  const deps = { greeting: 'hi' };

  await assert.rejects(greet.call(makeContext(), sent('Name=ann&DryRun=true'), deps), DryRunOperation);
  await assert.rejects(greet.call(makeContext(), sent('DryRun=true'), deps), /Name is missing/);
  assert.deepEqual(await greet.call(makeContext(), sent('Name=ann&DryRun=false'), deps), { text: 'hi ann' });
});

const who = (roles: string[], is_admin = false) => makeContext({ user_id: 'ann', project_id: 'web', roles, is_admin });
const passes = (ctx: ReturnType<typeof who>, roles: 'all' | 'superuser' | string[]) => {
  authorize(ctx, { name: 'Act', roles });
};

test('a listed role, or being administrator, opens an action', () => {
  passes(who([]), 'all');
  passes(who(['netadmin']), ['sysadmin', 'netadmin']);
  passes(who(['projectmanager']), ['projectmanager', 'sysadmin']);
  passes(who([], true), ['netadmin']);
  passes(who([], true), 'superuser');
});

test('without one the answer says which role is missing and how to get it', () => {
  assert.throws(() => passes(who(['sysadmin']), 'superuser'), PolicyNotAuthorized);
  assert.throws(
    () => passes(who(['sysadmin']), ['netadmin']),
    (err) =>
      err instanceof PolicyNotAuthorized &&
      /needs one of the roles netadmin/.test(err.message) &&
      /nova-manage role add ann ROLE web/.test(err.message),
  );
});
