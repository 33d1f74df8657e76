import assert from 'node:assert/strict';
import { spawn as startProcess, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { adminContext } from '../../../src/common/context.ts';
import { connectDb, writing } from '../../../src/common/db/connect.ts';
import { castJob } from '../../../src/common/db/jobs.ts';
import { castClient } from '../../../src/common/rpc/contract.ts';
import { objectstoreContract } from '../../../src/objectstore/rpc.ts';
import { flagFileText } from '../../rigs/daemon.ts';
import { needs } from '../../rigs/needs.ts';
import { startPostgres } from '../../rigs/postgres.ts';
import { projectRoot, tempDir } from '../../rigs/tmp.ts';
import { until } from '../../until.ts';

interface Ran {
  code: number | null;
  out: string;
  err: string;
}
const MANAGE = join(projectRoot(), 'bin/nova-manage');

const spawn = (argv: readonly string[], cwd: string): Ran => {
  const [program = '', ...args] = argv;
  const { status, stdout, stderr } = spawnSync(program, args, {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'], // a socket as its input makes bash read /etc/bash.bashrc
    timeout: 120_000,
  });
  return { code: status, out: stdout, err: stderr };
};

/** The real executable with a flagfile and a folder of the test's own. */
function aHost(t: TestContext, flags: Record<string, string> = {}) {
  const dir = tempDir(t, 'manage');
  const flagfile = join(dir, 'nova.flags');
  writeFileSync(flagfile, flagFileText({ state_path: join(dir, 'state'), my_ip: '192.0.2.7', ...flags }));
  const manage = (...words: string[]): Ran => spawn([MANAGE, `--flagfile=${flagfile}`, ...words], dir);
  return { dir, manage };
}

test('the first user and project are made before any daemon runs, with no set-up', (t) => {
  const { dir, manage } = aHost(t);

  const made = manage('user', 'admin', 'root');
  const project = manage('project', 'create', 'web', 'root');

  assert.deepEqual([made.code, project.code, project.err], [0, 0, '']);
  assert.match(made.err, /^a new database was made: [^\n]*\/state\/nova\.sqlite \(--sql_connection\)\n$/);
  assert.match(made.out, /^export EC2_ACCESS_KEY=\S+\nexport EC2_SECRET_KEY=\S+\n$/);
  assert.ok(existsSync(join(dir, 'state/nova.sqlite')));
  assert.equal(manage('project', 'list').out, 'web\n');
});

test('what fails is one line on standard error and a code, without a stack', (t) => {
  const { manage } = aHost(t);
  manage('db', 'sync');

  const refused = manage('project', 'create', 'web', 'nobody');
  const unknown = manage('porject', 'list');

  assert.deepEqual(refused, { code: 1, out: '', err: 'nova-manage: there is no user nobody\n' });
  assert.equal(unknown.code, 2);
  assert.match(unknown.err, /^porject is no category\nCategories:\n/);
});

for (const shell of ['bash', 'sh'])
  test(`a novarc makes ${shell} speak for its user, sourced from another folder`, { skip: needs(shell) }, (t) => {
    const { dir, manage } = aHost(t);
    manage('user', 'create', 'ann', 'acc', `it's$ecret"`);
    manage('project', 'create', 'web', 'ann');
    const rc = join(dir, 'creds/novarc');
    mkdirSync(join(dir, 'creds'));

    const written = manage('project', 'environment', 'web', 'ann', rc);

    assert.deepEqual(written, { code: 0, out: '', err: '' });
    assert.equal(statSync(rc).mode & 0o777, 0o600);
    const names = ['EC2_ACCESS_KEY', 'EC2_SECRET_KEY', 'EC2_URL', 'S3_URL', 'EC2_USER_ID', 'NOVA_API_KEY'];
    names.push('NOVA_USERNAME', 'NOVA_PROJECT_ID', 'NOVA_URL', 'AWS_SECRET_ACCESS_KEY', 'AWS_ENDPOINT_URL_EC2');
    const { code, out, err } = spawn([shell, '-euc', `. "${rc}"; printenv ${names.join(' ')}`], '/');
    assert.deepEqual({ code, err }, { code: 0, err: '' });
    assert.deepEqual(out.trimEnd().split('\n'), [
      'acc:web',
      `it's$ecret"`,
      'http://192.0.2.7:8773/services/Cloud',
      'http://192.0.2.7:3333',
      '42',
      'acc',
      'ann',
      'web',
      'http://192.0.2.7:8774/v1.1/',
      `it's$ecret"`,
      'http://192.0.2.7:8773/services/Cloud',
    ]);
  });

test('a novarc finds the keys beside it from any folder in bash', { skip: needs('bash') }, (t) => {
  const { dir, manage } = aHost(t);
  manage('user', 'create', 'ann');
  manage('project', 'create', 'web', 'ann');
  manage('project', 'environment', 'web', 'ann', join(dir, 'novarc'));

  assert.equal(spawn(['bash', '-c', `. "${dir}/novarc"; echo $EC2_CERT`], '/').out, `${dir}/cert.pem\n`);
});

test('credentials that open nothing are not written', (t) => {
  const { dir, manage } = aHost(t);
  manage('user', 'create', 'ann');
  manage('user', 'create', 'bob');
  manage('project', 'create', 'web', 'ann');

  const { code, err } = manage('project', 'environment', 'web', 'bob');

  assert.equal(code, 1);
  assert.match(err, /bob is no member of project web/);
  assert.equal(existsSync(join(dir, 'novarc')), false);
});

test(
  'project zipfile makes the CA once, and a zip whose certificate it signed',
  { skip: needs('openssl', 'unzip') },
  (t) => {
    const { dir, manage } = aHost(t);
    const user = 'ann+of.the.long.names@example.org-and-some-more-letters-for-the-certificate';
    manage('user', 'create', user, 'acc');
    manage('project', 'create', 'web', user);

    const first = manage('project', 'zipfile', 'web', user);
    const second = manage('project', 'zipfile', 'web', user, 'second.zip');

    const ca = join(dir, 'state/CA');
    assert.deepEqual([first.code, first.out, second], [0, '', { code: 0, out: '', err: '' }]);
    assert.match(first.err, /^the cloud's CA was made: [^\n]*\/state\/CA\. /);
    assert.deepEqual(
      [join(dir, 'nova.zip'), join(ca, 'private/cakey.pem')].map((file) => statSync(file).mode & 0o777),
      [0o600, 0o600],
    );
    assert.equal(spawn(['unzip', '-q', 'nova.zip', '-d', 'creds'], dir).err, '');
    const creds = join(dir, 'creds');
    assert.deepEqual(readdirSync(creds).sort(), ['cacert.pem', 'cert.pem', 'novarc', 'pk.pem']);
    assert.equal(spawn(['openssl', 'verify', '-CAfile', 'cacert.pem', 'cert.pem'], creds).out, 'cert.pem: OK\n');
    const modulus = (...of: string[]) => spawn(['openssl', ...of, '-noout', '-modulus'], creds).out;
    assert.equal(modulus('x509', '-in', 'cert.pem'), modulus('rsa', '-in', 'pk.pem'));
    assert.equal(modulus('x509', '-in', 'cacert.pem'), modulus('rsa', '-in', join(ca, 'private/cakey.pem')));
    assert.match(spawn(['openssl', 'x509', '-in', 'cert.pem', '-noout', '-subject'], creds).out, /CN = "?web-ann\+of/);
    assert.match(readFileSync(join(creds, 'novarc'), 'utf8'), /EC2_ACCESS_KEY=acc:web\n/);
  },
);

test('project zipfile with a CA for each project gives both certificates', { skip: needs('openssl', 'unzip') }, (t) => {
  const { dir, manage } = aHost(t, { use_project_ca: 'true' });
  manage('user', 'create', 'ann');
  manage('project', 'create', 'web', 'ann');
  manage('project', 'zipfile', 'web', 'ann');

  const { out } = spawn(['unzip', '-p', 'nova.zip', 'cacert.pem'], dir);
  const certificates = ['state/CA/projects/web/cacert.pem', 'state/CA/cacert.pem'];
  assert.equal(out, certificates.map((file) => readFileSync(join(dir, file), 'utf8')).join(''));

  rmSync(join(dir, 'state/CA/private/cakey.pem'));
  assert.match(manage('project', 'zipfile', 'web', 'ann').err, /but not its private key .*cakey.pem: bring it back/);
});

test('verbs that print and do nothing after it end with 0, and nothing on standard error', async (t) => {
  const { dir, manage } = aHost(t);
  manage('user', 'create', 'ann', 'acc');
  manage('project', 'create', 'web', 'ann');
  const db = await connectDb(`sqlite:///${join(dir, 'state/nova.sqlite')}`);
  const ctx = adminContext();
  await writing(db, (tx) => castJob(tx, ctx, castClient(objectstoreContract).deleteImage, { image_id: 1 }));
  await db.updateTable('jobs').set({ state: 'failed' }).execute();
  await db.destroy();

  for (const [words, printed] of [
    [['db', 'version'], /^\d+\n$/],
    [['job', 'retry', '1'], /^job 1 is queued again\n$/],
    [['project', 'environment', 'web', 'ann', '-'], /^# ann in project web[^]*EC2_ACCESS_KEY=acc:web\n/],
  ] as const) {
    const { code, out, err } = manage(...words);
    assert.deepEqual({ code, err }, { code: 0, err: '' }, words.join(' '));
    assert.match(out, printed);
  }
});

test('an empty PostgreSQL is told of, and made ready by db sync', { skip: needs('postgres', 'initdb') }, async (t) => {
  const postgres = await startPostgres(t);
  const { manage } = aHost(t, { sql_connection: await postgres.createDatabase() });

  const before = manage('user', 'create', 'ann');
  const sync = manage('db', 'sync');

  assert.equal(before.code, 1);
  assert.match(before.err, /schema version 0, this release needs \d+: run nova-manage db sync/);
  assert.deepEqual(sync, { code: 0, out: '', err: '' });
  assert.equal(manage('user', 'create', 'ann').code, 0);
  assert.equal(manage('user', 'list').out, 'ann\n');
});

test('nova-manage ends in order when the reader of its output has left', (t) => {
  const { dir, manage } = aHost(t);
  manage('user', 'create', 'ann');

  const { code, err } = spawn(
    ['bash', '-c', `set -o pipefail; "${MANAGE}" --flagfile="${dir}/nova.flags" --help | true`],
    dir,
  );

  assert.deepEqual({ code, err }, { code: 0, err: '' });
});

test('Ctrl-C while an image is stored leaves an image in error that says so, and no bytes', async (t) => {
  const { dir, manage } = aHost(t);
  manage('user', 'admin', 'root');
  manage('project', 'create', 'web', 'root');
  const disk = join(dir, 'disk');
  writeFileSync(disk, '');
  truncateSync(disk, 2 ** 40); // more than is stored before the signal comes
  const flagfile = `--flagfile=${join(dir, 'nova.flags')}`;
  const child = startProcess(MANAGE, [flagfile, 'image', 'image_register', disk, 'web'], { cwd: dir });
  t.after(() => child.kill('SIGKILL'));
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  const ended = once(child, 'close');
  const folder = join(dir, 'state/images/00000001');
  await until('it stores bytes', () => child.exitCode !== null || existsSync(folder));

  child.kill('SIGINT');
  const [code] = (await ended) as [number | null];

  assert.deepEqual([code, readdirSync(folder)], [1, []]);
  assert.match(said, /^nova-manage: ended by SIGINT before all bytes were stored: register the image again\n$/);
  assert.match(manage('image', 'list').out, /^ami-00000001 .* error \(ended by SIGINT before/m);
  assert.match(manage('explain', 'ami-00000001').out, /image not stored {2}ended by SIGINT/);
});
