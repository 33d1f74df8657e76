import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { dirname, join, resolve } from 'node:path';
import { test, type TestContext } from 'node:test';
import { connectDb } from '../../src/common/db/connect.ts';
import { LATEST, syncDb } from '../../src/common/db/migrate.ts';
import { execute } from '../../src/common/execute.ts';
import { flagFileText, type FlagFile } from '../rigs/daemon.ts';
import { needs } from '../rigs/needs.ts';
import { startPostgres } from '../rigs/postgres.ts';
import { freePort } from '../rigs/free_port.ts';
import { startRabbitmq } from '../rigs/rabbitmq.ts';
import { projectRoot, tempDir } from '../rigs/tmp.ts';

/** What a daemon that cannot be started says to who started it. */
async function refusal(
  t: TestContext,
  binary: string,
  flags: FlagFile,
  env: Record<string, string> = {},
): Promise<{ line: string; exit_code: number }> {
  const dir = tempDir(t);
  const all: FlagFile = {
    state_path: join(dir, 'state'),
    host: 'node1',
    my_ip: '127.0.0.1',
    fake_rabbit: true,
    fake_network: true,
    connection_type: 'fake',
    network_manager: 'nova.network.manager.FlatDHCPManager',
    s3_listen: '127.0.0.1',
    s3_port: await freePort(),
    ec2_listen: '127.0.0.1',
    ec2_listen_port: await freePort(),
    enabled_apis: 'ec2',
    sql_max_retries: 1,
    sql_retry_interval: 0,
    ...flags,
  };
  const flagfile = join(dir, 'nova.flags');
  writeFileSync(flagfile, flagFileText(all));
  const argv = [process.execPath, resolve(projectRoot(), 'bin', binary), `--flagfile=${flagfile}`];
  const { stderr, exit_code } = await execute(argv, { ok: [0, 1, 2], env, timeout_ms: 120_000 });
  const plain = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('{'));
  assert.equal(plain.length, 1, `one line for a reader, and no stack:\n${stderr}`);
  const fatal = stderr.split('\n').filter((line) => line.startsWith('{') && line.includes('"level":60'));
  assert.deepEqual(fatal, [], 'what is told in words is not told again as JSON');
  return { line: plain[0] ?? '', exit_code };
}

/** `binary` refuses to start with these flags, with exit code 2 and a line that matches all of `words`. */
async function refuses(t: TestContext, binary: string, flags: FlagFile, words: RegExp[], env?: Record<string, string>) {
  const { line, exit_code } = await refusal(t, binary, flags, env);
  assert.ok(line.startsWith(`${binary}: `), line);
  for (const word of words) assert.match(line, word);
  assert.equal(exit_code, 2, line);
}

test('a flag that cannot be used ends a daemon with one line that names it', async (t) => {
  const wrong: [FlagFile, ...RegExp[]][] = [
    [{ rabit_host: 'x' }, /unknown flag --rabit_host \(.*nova\.flags:\d+\); nearest known: --rabbit_host/],
    [{ service_down_time: 'soon' }, /--service_down_time=soon: not an integer \(.*nova\.flags:\d+\)/],
    [
      { service_down_time: 19, report_interval: 10 },
      /--service_down_time=19 is less than twice --report_interval=10: a host would count as down/,
    ],
    [{ sql_connection: 'oracle://x' }, /--sql_connection=oracle:\/\/x: not a database URL/, /sqlite:.*postgresql:/],
    [{ network_manager: 'nova.network.manager.Flat' }, /--network_manager=.*Flat: .*FlatDHCPManager/],
    [
      { network_manager: 'nova.network.quantum.manager.QuantumManager' },
      /QuantumManager is not part of this release. Use/,
    ],
    [{ volume_driver: 'nova.volume.driver.RBDDriver' }, /RBDDriver: .*not part of this suite. Use .*FileISCSIDriver/],
    [{ volume_driver: 'nova.volume.Driver' }, /--volume_driver=nova\.volume\.Driver: .*Known: .*FileISCSIDriver/],
    [
      { volume_driver: 'nova.volume.driver.FakeISCSIDriver', fake_volume_state: '/dev/null/x' },
      /--fake_volume_state=\/dev\/null\/x: .*Give a file that can be written/,
    ],
    [{ volume_name_template: 'vol' }, /--volume_name_template=vol: not like/],
    [{ connection_type: 'kvm' }, /--connection_type=kvm: .*libvirt, qemu, fake/],
    [{ compute_manager: 'nova.Manager' }, /--compute_manager=nova\.Manager: .*nova\.compute\.manager\.ComputeManager/],
    [{ volume_manager: 'nova.Manager' }, /--volume_manager=nova\.Manager: .*nova\.volume\.manager\.VolumeManager/],
    [{ scheduler_manager: 'x' }, /--scheduler_manager=x: .*nova\.scheduler\.manager\.SchedulerManager/],
    [{ scheduler_driver: 'Chance' }, /--scheduler_driver=Chance: .*nova\.scheduler\.chance\.ChanceScheduler/],
    [{ enabled_apis: 'ec2,s4' }, /--enabled_apis=s4: not an API; known are ec2/],
    [{ instance_name_template: 'vm' }, /--instance_name_template=vm: not like instance-%08x/],
    [{ ec2_listen: '192.0.2.77' }, /cannot listen on 192\.0\.2\.77:\d+: this host has no such address/],
    [{ logdir: '/dev/null/x' }, /--logdir: \/dev\/null\/x\/nova-all\.log cannot be written/],
    [{ fake_driver_state: '/dev/null/x' }, /--fake_driver_state=\/dev\/null\/x: .*Give a file that can be written/],
    [{ buckets_path: '/dev/null/x' }, /--buckets_path=\/dev\/null\/x: /],
    [{ sql_connection: 'sqlite:////dev/null/x' }, /--sql_connection=sqlite:.*its folder cannot be made.*give a place/],
    [{ sql_connection: `sqlite:///${projectRoot()}` }, /--sql_connection=.*: the file cannot be opened/],
    [{ sql_connection: `sqlite:///${projectRoot()}/package.json` }, /: the file is no SQLite database .*name another/],
  ];
  for (const [flags, ...words] of wrong) await refuses(t, 'nova-all', flags, words);
});

test('words on the command line of a daemon are refused, since flags behind them would not be read', async () => {
  const argv = [process.execPath, resolve(projectRoot(), 'bin/nova-compute'), '--verbose', 'false', '--flagfile=/x'];
  const { stderr, exit_code } = await execute(argv, { ok: [2] });
  assert.equal(stderr, "nova-compute: 'false' is no flag: flags begin with --, values follow a =\n");
  assert.equal(exit_code, 2);
});

test('a port that is taken is named with its flag', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;

  const taken = new RegExp(`cannot listen on 127\\.0\\.0\\.1:${port}: another process listens there`);
  await refuses(t, 'nova-api', { ec2_listen_port: port }, [/--ec2_listen_port/, taken]);
  await refuses(t, 'nova-objectstore', { s3_port: port }, [/--s3_port/, taken]);
});

test(
  'a missing program or a silent libvirtd is named with its flag and what to do',
  { skip: needs('virsh', 'qemu-img') },
  async (t) => {
    const PATH = tempDir(t); // with nothing in it
    await refuses(t, 'nova-compute', { connection_type: 'qemu' }, [/--qemu_img=qemu-img: .*Install qemu-utils/], {
      PATH,
    });
    await refuses(
      t,
      'nova-compute',
      { connection_type: 'libvirt', libvirt_uri: 'qemu+unix:///system?socket=/dev/null/x' },
      [/libvirtd does not answer at qemu\+unix:.*start it, or set --libvirt_uri/],
    );
  },
);

test('a folder of another user is refused with its name', { skip: needs('root', 'setpriv') }, async (t) => {
  const dir = tempDir(t);
  chmodSync(dir, 0o755);
  const flags = ['--fake_rabbit', `--state_path=${join(dir, 'state')}`];
  const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--'];
  const argv = [process.execPath, resolve(projectRoot(), 'bin/nova-scheduler'), ...flags];
  if (!(await readable(nobody))) return t.skip('the project is in a folder that user nobody may not read');

  const { stderr, exit_code } = await execute([...nobody, ...argv], { ok: [2] });

  assert.match(stderr, /^nova-scheduler: --sql_connection=sqlite:.*: its folder may not be written .*\n$/);
  assert.equal(exit_code, 2);
});

const readable = (as: readonly string[]): Promise<boolean> =>
  execute([...as, 'test', '-r', join(projectRoot(), 'dist/src/scheduler/main.js')]).then(
    () => true,
    () => false,
  );

test(
  'PostgreSQL that is away, refuses, or holds another schema is named with the flag',
  { skip: needs('postgres') },
  async (t) => {
    const nobody_there = `postgresql://nova:geheim@127.0.0.1:${await freePort()}/nova`;
    await refuses(t, 'nova-scheduler', { sql_connection: nobody_there }, [
      /--sql_connection=postgresql:\/\/nova:\*\*\*@127\.0\.0\.1:\d+\/nova: connection refused .*start it, or correct/,
    ]);
    const postgres = await startPostgres(t);
    await refuses(t, 'nova-scheduler', { sql_connection: postgres.url.replace(/\w+$/, 'none') }, [
      /it has no database of that name .*create it/,
    ]);
    const sql_connection = await postgres.createDatabase();
    await refuses(t, 'nova-scheduler', { sql_connection }, [
      /has schema version 0, this release needs \d+: run nova-manage db sync/,
    ]);
  },
);

test('a database of a newer release is not touched', async (t) => {
  const file = join(tempDir(t), 'nova.sqlite');
  const db = await connectDb(`sqlite:///${file}`);
  await syncDb(db);
  await db
    .insertInto('migrations_applied')
    .values({ version: LATEST + 1, name: 'of_tomorrow', applied_at: '2100-01-01T00:00:00.000Z' })
    .execute();
  await db.destroy();

  await refuses(t, 'nova-scheduler', { sql_connection: `sqlite:///${file}` }, [
    new RegExp(`schema version ${LATEST + 1}, newer than this release's ${LATEST}: upgrade this host`),
  ]);
});

test('a broker that is away or refuses is named with its flags', { skip: needs('rabbitmq-server') }, async (t) => {
  const impatient = { fake_rabbit: null, rabbit_max_retries: 2, rabbit_retry_interval: 0, rabbit_retry_backoff: 0 };
  await refuses(t, 'nova-scheduler', { ...impatient, rabbit_host: '127.0.0.1', rabbit_port: await freePort() }, [
    /--rabbit_host=127\.0\.0\.1, --rabbit_port=\d+: no broker answers \(connect ECONNREFUSED.*start RabbitMQ there/,
  ]);
  const { flags } = await startRabbitmq(t);
  await refuses(t, 'nova-scheduler', { ...impatient, ...flags, rabbit_password: 'wrong' }, [
    /--rabbit_userid=guest: the broker at 127\.0\.0\.1:\d+ refuses this login; correct it or --rabbit_password/,
  ]);
  await refuses(t, 'nova-scheduler', { ...impatient, ...flags, rabbit_virtual_host: '/none' }, [
    /--rabbit_virtual_host=\/none: .* has none of this name/,
  ]);
});

test('help and version of every executable need no database and no broker', async () => {
  const binaries = ['all', 'api', 'compute', 'dhcpbridge', 'network', 'objectstore', 'scheduler', 'volume', 'manage'];
  for (const binary of binaries.map((name) => `nova-${name}`)) {
    const ask = (flag: string) =>
      execute([resolve(projectRoot(), 'bin', binary), flag], {
        ok: [0, 1],
        env: { PATH: `${dirname(process.execPath)}:/usr/bin:/bin` },
      });
    assert.match((await ask('--version')).stdout, new RegExp(`^${binary} \\d+\\.\\d+\\.\\d+\n$`));
    assert.match(
      (await ask('--helpxml')).stdout,
      new RegExp(`^<\\?xml[^]*<program>${binary}</program>[^]*</AllFlags>\n$`),
    );
    assert.match((await ask('--helpshort')).stdout, new RegExp(`^USAGE: ${binary} `));
    assert.match((await ask('--help')).stdout, binary === 'nova-manage' ? /CATEGORIES/ : /--state_path: Folder/);
  }
});
