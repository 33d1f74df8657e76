import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { absentText } from '../../../src/manage/absent.ts';
import { NOUNS } from '../../../src/manage/nouns.ts';
import { runManage } from '../../../src/manage/run.ts';
import { tempDir } from '../../rigs/tmp.ts';

interface Ran {
  code: number;
  out: string[];
  err: string;
}

/** nova-manage with a database of the test's own, which no daemon has touched. */
function aManage(t: TestContext): (...words: string[]) => Promise<Ran> {
  const url = `--sql_connection=sqlite:///${join(tempDir(t, 'manage'), 'nova.sqlite')}`;
  return async (...words) => {
    const [out, err]: [string[], string[]] = [[], []];
    const code = await runManage([url, ...words], {
      out: (line) => void out.push(...line.split('\n')),
      warn: (line) => void err.push(line),
    });
    return { code, out, err: err.join('\n') };
  };
}

test('user create prints two exports with UUID keys, and user exports prints the same', async (t) => {
  const manage = aManage(t);

  const { out } = await manage('user', 'create', 'ann');

  const uuid = '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}';
  assert.match(out.join('\n'), new RegExp(`^export EC2_ACCESS_KEY=${uuid}\nexport EC2_SECRET_KEY=${uuid}$`));
  assert.deepEqual((await manage('user', 'exports', 'ann')).out, out);
});

test('a category and an action may be a unique prefix, in any case', async (t) => {
  const manage = aManage(t);

  assert.equal((await manage('US', 'cr', 'ann', 'acc', 'sec')).code, 0);
  assert.deepEqual((await manage('Us', 'LIST')).out, ['ann']);
  assert.equal((await manage('account', 'create', 'web', 'ann')).code, 0);
  assert.deepEqual((await manage('acc', 'l')).out, ['web']);
});

test('what is not understood ends with 2 and a list of what is', async (t) => {
  const manage = aManage(t);

  for (const [words, wanted] of [
    [[], /category action[\s\S]*user {2}[\s\S]*service /],
    [['bogus'], /bogus is no category\nCategories:[\s\S]*user /],
    [['user'], /user: an action is missing\nActions:[\s\S]*create NAME \[ACCESS\] \[SECRET\]/],
    [['user', 'fly'], /fly is no action of user\nActions:[\s\S]*delete NAME/],
    [
      ['instance_type', 'list', 'a', 'b'],
      /'b' is one argument too many\nUsage: nova-manage instance_type list \[NAME\]/,
    ],
    [['user', 'create'], /NAME is missing: name of the user\nUsage: nova-manage user create NAME/],
    [['user', 'create', '--name'], /--name needs a value/],
    [['user', 'create', 'ann', '--colour=red'], /there is no --colour here, but --name, --access, --secret/],
    [['instance_type', 'create', 'x', 'much', '1', '0', '9'], /MEMORY: 'much' is not a whole number from 1/],
    [['user', 'modify', 'ann', '', '', 'maybe'], /IS_ADMIN: 'maybe' is not T or F/],
  ] as [string[], RegExp][]) {
    const { code, err } = await manage(...words);
    assert.equal(code, 2, words.join(' '));
    assert.match(err, wanted);
  }
});

test('what only Nova has is told as such, with what does the like', async (t) => {
  const manage = aManage(t);

  for (const [words, wanted] of [
    [
      ['vm', 'live_migration', 'i-1', 'node2'],
      /^Nova's vm live_migration is not part of this suite\nActions:\n {4}list /,
    ],
    [['vm', 'live-migration'], /^Nova's vm live_migration is not part/],
    [['vpn', 'sp'], /^Nova's vpn spawn is not part of this suite; nova-manage vpn run launches/],
    [['shell', 'python'], /^Nova's shell is not part of this suite\nCategories:\n/],
    [['Version'], /^Nova's version is not part of this suite; nova-manage --version prints it\n/],
    [['users'], /^users is no category\n/],
    [['vm', 'x'], /^x is no action of vm\n/],
  ] as [string[], RegExp][]) {
    const { code, err } = await manage(...words);
    assert.equal(code, 2, words.join(' '));
    assert.match(err, wanted);
  }
});

test('no command that is here is told to be absent', async () => {
  for (const { names, load } of NOUNS) {
    const verbs = Object.keys((await load()).verbs);
    for (const name of names)
      for (const asked of [name, ...verbs.map((verb) => `${name} ${verb}`)]) assert.equal(absentText(asked), undefined);
  }
});

test('several meanings of a prefix are listed', async (t) => {
  const { code, err } = await aManage(t)('f', 'list');

  assert.equal(code, 2);
  assert.match(err, /f matches several categories:\n( {4}f\w+\n?){2,}/);
});

test('what fails ends with 1 and one line that says why', async (t) => {
  const manage = aManage(t);
  await manage('user', 'create', 'ann');

  for (const [words, wanted] of [
    [['user', 'create', 'ann'], 'nova-manage: the user ann exists already'],
    [['user', 'exports', 'bob'], 'nova-manage: there is no user bob'],
    [['project', 'create', 'web', 'bob'], 'nova-manage: there is no user bob'],
    [['job', 'retry', '7'], 'nova-manage: there is no job 7; what was done is forgotten after a while'],
  ] as const) {
    const { code, out, err } = await manage(...words);
    assert.deepEqual({ code, out, err }, { code: 1, out: [], err: wanted });
  }
});

test('a database that is not there is named, without its password', async () => {
  const err: string[] = [];
  const url = 'postgresql://nova:hush@127.0.0.1:1/nova';

  const code = await runManage([`--sql_connection=${url}`, 'user', 'list'], {
    out: () => undefined,
    warn: (line) => void err.push(line),
  });

  assert.equal(code, 1);
  assert.match(
    err.join('\n'),
    /^nova-manage: --sql_connection=postgresql:\/\/nova:\*\*\*@127.0.0.1:1\/nova: connection refused \(.*start it/,
  );
});

test('arguments go by place or by name, and an empty word leaves one out', async (t) => {
  const manage = aManage(t);
  await manage('user', 'create', '--secret', 'sec', 'ann', 'acc');
  const keys = async () => (await manage('user', 'exports', 'ann')).out.map((line) => line.split('=')[1]);
  assert.deepEqual(await keys(), ['acc', 'sec']);

  await manage('user', 'modify', 'ann', '', 'new', 'T');

  assert.deepEqual(await keys(), ['acc', 'new']);
});

test('roles: both halves are needed, and what cannot be given is refused', async (t) => {
  const manage = aManage(t);
  await manage('user', 'create', 'ann');
  await manage('project', 'create', 'web', 'ann');
  const has = async () => (await manage('role', 'has', 'ann', 'sysadmin', 'web')).out[0];

  const before = await has();
  await manage('role', 'add', 'ann', 'sysadmin', 'web');
  const with_one = await has();
  await manage('role', 'add', 'ann', 'sysadmin');

  assert.deepEqual([before, with_one, await has()], ['False', 'False', 'True']);
  assert.match((await manage('role', 'add', 'ann', 'cloudadmin', 'web')).err, /held everywhere, not in one project/);
  for (const verb of ['add', 'has', 'remove'])
    assert.match((await manage('role', verb, 'ann', 'king')).err, /there is no role king/);
  assert.deepEqual((await manage('role', 'has', 'ann', 'projectmanager', 'web')).out, ['True']);
  await manage('user', 'admin', 'root');
  for (const words of [['netadmin', 'web'], ['netadmin'], ['cloudadmin']])
    assert.deepEqual((await manage('role', 'has', 'root', ...words)).out, ['True'], words.join(' '));
});

test('a host that nobody has heard of is refused, not taken for an empty one', async (t) => {
  const manage = aManage(t);
  await manage('db', 'sync');

  for (const words of [
    ['vm', 'list', 'nosuch'],
    ['fixed', 'list', 'nosuch'],
    ['volume', 'list', '--host=nosuch'],
  ]) {
    const { code, err } = await manage(...words);
    assert.deepEqual([code, err], [1, 'nova-manage: there is no host nosuch: see nova-manage service list'], words[0]);
  }
});

test("Diablo's names of arguments are known", async (t) => {
  const manage = aManage(t);
  await manage('user', 'create', 'ann');

  for (const words of [
    ['project', 'create', '--project=web', '--user=ann', '--desc=Shop'],
    ['project', 'modify', '--project=web', '--desc=Market'],
    ['project', 'delete', '--project=web'],
    ['floating', 'create', '--ip_range=203.0.113.9'],
    ['instance_type', 'create', '--name=m', '--memory=1', '--cpu=1', '--local_gb=1', '--flavorid=9'],
  ])
    assert.deepEqual(await manage(...words).then(({ code, err }) => [code, err]), [0, ''], words.join(' '));
});

test('project quota sets a limit and prints all of them', async (t) => {
  const manage = aManage(t);
  await manage('user', 'create', 'ann');
  await manage('project', 'create', 'web', 'ann');

  const set = await manage('project', 'quota', 'web', 'instances', '5');
  await manage('project', 'quota', 'web', 'ram', 'unlimited');

  assert.equal(set.out[0], 'instances: 5');
  const { out } = await manage('project', 'quota', 'web');
  assert.deepEqual(out.slice(0, 3), ['instances: 5', 'cores: 20', 'ram: unlimited']);
  assert.equal(out.length, 11);
  assert.equal((await manage('project', 'quota', 'web', 'instances', '-2')).code, 1);
  assert.equal((await manage('project', 'quota', 'web', 'beds', '1')).code, 1);
});

test('instance types are listed, hidden when deleted, shown by --all, and gone after --purge', async (t) => {
  const manage = aManage(t);
  await manage('db', 'sync');
  const names = async (...words: string[]) =>
    (await manage('flavor', 'list', ...words)).out.map((line) => line.split(':')[0]);
  assert.deepEqual(await names(), ['m1.tiny', 'm1.small', 'm1.medium', 'm1.large', 'm1.xlarge']);

  assert.deepEqual((await manage('instance_type', 'create', 'm1.x', '1024', '1', '10', '9')).out, ['m1.x created']);
  assert.deepEqual((await manage('instance_type', 'list', 'm1.x')).out, [
    'm1.x: Memory: 1024MB, VCPUS: 1, Storage: 10GB, FlavorID: 9, Swap: 0GB, RXTX Quota: 0GB, RXTX Cap: 0MB',
  ]);
  assert.deepEqual((await manage('instance_type', 'delete', 'm1.x')).out, ['m1.x deleted']);

  assert.ok(!(await names()).includes('m1.x'));
  assert.match((await manage('instance_type', 'list', '--all')).out.at(-1) ?? '', /^m1.x: .*, inactive$/);
  assert.deepEqual((await manage('instance_type', 'delete', 'm1.x', '--purge')).out, ['m1.x purged']);
  assert.ok(!(await names('--all')).includes('m1.x'));
});

test('db sync makes the schema, as often as it is asked to, and db version prints its number', async (t) => {
  const manage = aManage(t);

  const none = await manage('db', 'version');
  assert.equal(none.code, 1);
  assert.match(none.err, /there is no database \/.*nova\.sqlite \(--sql_connection\): name the flagfile/);
  assert.match((await manage('db', 'sync')).err, /^a new database was made: .*nova\.sqlite/);
  assert.deepEqual(await manage('db', 'sync'), { code: 0, out: [], err: '' });

  const [version] = (await manage('db', 'version')).out;
  assert.match(version ?? '', /^[1-9]\d*$/);
  assert.match((await manage('db', 'sync', '999')).err, /no schema version 999/);
});

test('--help tells of every category, action and argument', async (t) => {
  const manage = aManage(t);

  const top = await manage('--help');
  assert.equal(top.code, 0);
  assert.match(top.out.join('\n'), /NAME\n {4}nova-manage[\s\S]*CATEGORIES\n[\s\S]*project, account {2}/);
  for (const [, category] of top.out.join('\n').matchAll(/^ {4}([a-z_]+)(?:, [a-z_]+)* {2,}\S/gm)) {
    const { code, out } = await manage(category as string, '--help');
    assert.equal(code, 0);
    assert.match(out.join('\n'), new RegExp(`NAME\\n    nova-manage ${category} - `));
    for (const [, action] of out.join('\n').matchAll(/^ {4}([a-z_]+)(?: \S+)* {2,}\S/gm)) {
      if (action === 'nova') continue;
      const help = await manage(category as string, action as string, '--help');
      assert.equal(help.code, 0, `${category} ${action}`);
      assert.match(help.out.join('\n'), /SYNOPSIS\n {4}nova-manage \[flags\] /);
    }
  }
});
