import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { nowText } from '../../src/common/clock.ts';
import { connectDb, type NovaDb } from '../../src/common/db/connect.ts';
import { createFloatingIps } from '../../src/common/db/floating_pool.ts';
import { syncDb } from '../../src/common/db/migrate.ts';
import { registerService } from '../../src/common/db/services.ts';
import { Flags } from '../../src/common/flags.ts';
import { createNetworks } from '../../src/network/manager/create_networks.ts';
import { aFixedIp, anInstance, aNetwork, aProject } from '../builders.ts';
import { startDaemon } from '../rigs/daemon.ts';
import { needs } from '../rigs/needs.ts';
import { startLan, type Host } from '../rigs/netns.ts';
import { atEnd, projectRoot, tempDir, type Scope } from '../rigs/tmp.ts';
import { said } from './doctor_says.ts';
import { rulesOf, stateOf } from './guests.ts';

const skip = needs('root', 'nsenter', 'unshare', 'ip', 'iptables', 'ebtables', 'ipset', 'dnsmasq');

const aService = (db: NovaDb, service: { host: string; binary: string; topic: string }): Promise<void> =>
  registerService(db, { availability_zone: 'nova', incarnation: 'x', agreed_flags: {}, enabled: true, ...service });

/** A host with a nova-network that looks after nothing by itself for an hour, and the rows of a nova-compute. */
async function aHost(t: Scope, network_manager = 'nova.network.manager.FlatDHCPManager') {
  const { hosts, cidr } = await startLan(t, ['net1']);
  const [net1] = hosts as [Host];
  const state_path = tempDir(t, 'state');
  const sql_connection = `sqlite:///${join(state_path, 'nova.sqlite')}`;
  const db = await connectDb(sql_connection);
  atEnd(t, () => db.destroy());
  await syncDb(db);
  await aProject(db);
  await createNetworks({ db, flags: Flags.of() }, { fixed_range: '10.77.0.0/24' });
  await aService(db, { host: 'net1', binary: 'nova-compute', topic: 'compute' });
  const flags = {
    fake_rabbit: true,
    state_path,
    sql_connection,
    network_manager,
    fixed_range: '10.77.0.0/24',
    ec2_dmz_host: net1.address,
    allow_project_net_traffic: false,
    periodic_interval: 3600,
  };
  const daemon = await startDaemon(t, 'nova-network', { host: net1, flags });
  const doctor = async (...args: string[]) => {
    const argv = [process.execPath, join(projectRoot(), 'bin/nova-manage'), `--flagfile=${daemon.flagfile}`];
    const { stdout, stderr, exit_code } = await net1.exec([...argv, 'network', 'doctor', ...args], { ok: [0, 1] });
    return { said: stdout, warned: stderr, exit_code };
  };
  return { net1, db, daemon, doctor, cidr, networks_path: join(state_path, 'networks') };
}

/** An instance with an address, and a tap as libvirt makes it, in the bridge. */
async function aGuest(db: NovaDb, n: number): Promise<{ id: number; address: string }> {
  const id = await anInstance(db, { host: 'net1' });
  const address = `10.77.0.${n}`;
  await aFixedIp(db, { network_id: 1, instance_id: id, address });
  const { id: group } = await db
    .insertInto('security_groups')
    .values({ name: `of ${n}`, description: '', user_id: 'ann', project_id: 'apollo', created_at: nowText() })
    .returning('id')
    .executeTakeFirstOrThrow();
  const made = { created_at: nowText(), security_group_id: group, instance_id: id };
  await db.insertInto('security_group_instance_association').values(made).execute();
  const rule = { parent_group_id: group, protocol: 'tcp', from_port: 22, to_port: 22, created_at: nowText() };
  await db.insertInto('security_group_rules').values({ ...rule, cidr: '0.0.0.0/0' }).execute(); // prettier-ignore
  await db
    .insertInto('security_group_rules')
    .values({ ...rule, group_id: group })
    .execute();
  return { id, address };
}

async function plugTap(host: Host, name: string): Promise<void> {
  await host.exec(['ip', 'tuntap', 'add', name, 'mode', 'tap']);
  await host.exec(['ip', 'link', 'set', name, 'master', 'br100', 'up']);
}

/** Rules and addresses; the order of two daemons' jumps in a chain is as it comes, and so is that of addresses. */
async function linesOf(host: Host): Promise<string[]> {
  const addresses = (await host.exec(['ip', '-4', '-o', 'addr'])).stdout.match(/\S+ +inet \S+/g) ?? [];
  return [...(await rulesOf(host)).split('\n'), ...addresses].sort();
}

test(
  'network doctor tells of each thing that someone changed on a host, puts it right, and tells of nothing then',
  { skip },
  async (t) => {
    // prettier-ignore
    const { net1, db, doctor, cidr, networks_path } = await aHost(t);
    const floating = cidr.replace('.0/24', '.130');
    const [web, db_guest] = [await aGuest(db, 7), await aGuest(db, 8)];
    for (const { id } of [web, db_guest]) await plugTap(net1, `nova${id}-0`);
    await createFloatingIps(db, () => [{ address: floating, address_number: 1 }]);
    const fixed = await db.selectFrom('fixed_ips').select('id').where('address', '=', web.address).executeTakeFirstOrThrow(); // prettier-ignore
    await db.updateTable('floating_ips').set({ project_id: 'apollo', fixed_ip_id: fixed.id }).execute();

    /** Breaks several things that have nothing to do with each other; the doctor names exactly these. */
    const broken = async (...things: readonly (readonly [string | (() => Promise<unknown>), ...RegExp[]])[]) => {
      for (const [how] of things) await (typeof how === 'string' ? net1.exec(['sh', '-c', how]) : how());
      const { said: text, exit_code } = await doctor('--apply');
      const wanted = things.flatMap(([, ...patterns]) => patterns);
      const told = said(text.split('put right')[0] ?? '');
      for (const pattern of wanted) assert.ok(told.some((one) => pattern.test(one)), `${pattern} in:\n${text}`); // prettier-ignore
      for (const one of told) assert.ok(wanted.some((pattern) => pattern.test(one)), `not expected: ${one} in:\n${text}`); // prettier-ignore
      assert.match(text, /put right: nothing differs any more/);
      assert.equal(exit_code, 0);
    };

    // nova-network is a stranger to guests that came by rows alone, and nova-compute never ran.
    const first = await doctor();
    assert.equal(first.exit_code, 1);
    assert.ok(said(first.said).some((one) => one.endsWith(`nova-br100.conf | 02:16:3e:4d:00:07,web.novalocal,10.77.0.7 | no such line | writes it and tells dnsmasq`)), first.said); // prettier-ignore
    const before = await stateOf(net1);
    assert.equal((await doctor()).said, first.said);
    assert.equal(await stateOf(net1), before); // looking changes nothing
    assert.equal((await doctor('--apply')).exit_code, 0);
    assert.deepEqual(await doctor(), { said: 'nothing differs\n', warned: '', exit_code: 0 });
    for (const rule of ['-N DOCKER', '-A DOCKER -j RETURN', '-A FORWARD -j DOCKER', '-A INPUT -s 192.0.2.9/32 -j DROP'])
      await net1.exec(['iptables', ...rule.split(' ')]);
    await net1.exec(['ipset', 'create', 'mine', 'hash:ip']);
    await net1.exec(['ip', 'addr', 'add', '192.0.2.77/32', 'dev', 'eth0']);
    await net1.exec(['ip', 'link', 'add', 'br-mine', 'type', 'bridge']);
    const foreign = await linesOf(net1);

    // The host itself, the bridge and its addresses.
    await broken(
      [
        'ip addr del 10.77.0.1/24 dev br100',
        /^interface br100 \| address 10\.77\.0\.1\/24 \| no such address \| adds it$/,
      ],
      ['ip addr del 169.254.169.254/32 dev lo', /^interface lo \| address 169\.254\.169\.254\/32 \|/],
      ['sysctl -qw net.ipv4.ip_forward=0', /^kernel settings \| net\.ipv4\.ip_forward=1 \|/],
      [
        `ip addr del ${floating}/32 dev eth0`,
        new RegExp(`^interface eth0 \\| address ${floating}/32 \\| no such address`),
      ],
      [
        'sysctl -qw net.bridge.bridge-nf-call-iptables=0',
        /^kernel settings \| net\.bridge\.bridge-nf-call-iptables=1 \| 0 \|/,
      ],
      [
        'bridge link set dev nova2-0 hairpin off',
        /^interface nova2-0 \| hairpin on, .* \| hairpin off \| turns it on$/,
      ],
      [
        'ip link set nova1-0 nomaster',
        /^interface nova1-0 \| in br100, as a card of i-00000001 \| in no bridge \| puts it there$/,
      ],
    );
    assert.deepEqual(await linesOf(net1), foreign);
    await broken(
      ['ip link set br100 down', /^interface br100 \| up \| down \| sets it up$/],
      ['sysctl -qw net.ipv4.conf.br100.send_redirects=1', /^kernel settings \| net\.ipv4\.conf\.all\.send_redirects=0 and net\.ipv4\.conf\.br100\.send_redirects=0 \|/], // prettier-ignore
    );

    // Rules: of nova-network, of nova-compute, of both; foreign ones are not spoken of.
    const nat = `-d ${floating}/32 -j DNAT --to-destination 10.77.0.7`;
    await broken(
      [`iptables -t nat -D nova-network-PREROUTING ${nat}`, new RegExp(`^iptables table nat chain nova-network-PREROUTING \\| ${nat} \\| no such rule \\| adds it$`)], // prettier-ignore
      ['iptables -I nova-network-FORWARD -s 192.0.2.1 -j DROP', /chain nova-network-FORWARD \| no such rule \| -s 192\.0\.2\.1\/32 -j DROP \| takes it away$/], // prettier-ignore
      ['iptables -D FORWARD -j nova-filter-top', /chain FORWARD \| -j nova-filter-top once \| no such rule/],
      ['iptables -A nova-postrouting-bottom -t nat -j nova-network-snat', /chain nova-postrouting-bottom \| -j nova-network-snat once \| it 2 times/], // prettier-ignore
      ['iptables -N nova-compute-inst-63; iptables -A nova-compute-inst-63 -j DROP', /chain nova-compute-inst-63 \| no such chain, .* \| a chain of 1 rules \| removes it/], // prettier-ignore
      ['iptables -F nova-compute-sg-1', /chain nova-compute-sg-1 \| -p tcp -m tcp --dport 22 -j ACCEPT \| no such/, /chain nova-compute-sg-1 \| .*--match-set nova-sg-1 src/], // prettier-ignore
      ['ebtables -t nat -F nova-compute-sources', /^ebtables table nat chain nova-compute-sources \| -i nova1-0 /, /^ebtables table nat chain nova-compute-sources \| -i nova2-0 /], // prettier-ignore
      ['ipset del nova-sg-1 10.77.0.7', /^ipset nova-sg-1 \| 10\.77\.0\.7 \| not in it/],
      ['ipset add nova-sg-2 10.77.0.99', /^ipset nova-sg-2 \| not 10\.77\.0\.99 \| it is in it/],
      ['ipset create nova-sg-63 hash:ip', /^ipset nova-sg-63 \| no such set, .* \| a set of 0 addresses/],
      ['iptables -F nova-bridge-FORWARD', /chain nova-bridge-FORWARD \| -i br100 -j ACCEPT/, /chain nova-bridge-FORWARD \| -o br100/], // prettier-ignore
    );
    assert.deepEqual(await linesOf(net1), foreign);
    await broken(['ip link del br100', /^interface br100 \| there \| not there/, /^interface nova1-0 \|/, /^interface nova2-0 \|/]); // prettier-ignore

    // DHCP: its process, its options, its lines, its events.
    const conf = join(networks_path, 'nova-br100.conf');
    await broken([
      `kill $(cat ${networks_path}/nova-br100.pid)`,
      /^DHCP server of br100 \| a dnsmasq \| none \| starts one$/,
    ]);
    const lost = async () => writeFileSync(join(networks_path, 'nova-br100.pid'), '');
    await broken([lost, /^DHCP server of br100 \| a dnsmasq \| process \d+, without its pid file \|/]);
    const event = join(networks_path, 'nova-br100.02:16:3e:4d:00:07.event.taken');
    await broken(
      [async () => writeFileSync(conf, '02:16:3e:4d:00:07,web.novalocal,10.77.0.7\n02:16:3e:4d:00:63,old.novalocal,10.77.0.99\n'), /nova-br100\.conf \| no such line \| 02:16:3e:4d:00:63,/, /nova-br100\.conf \| 02:16:3e:4d:00:08,/], // prettier-ignore
      [async () => writeFileSync(event, 'add 02:16:3e:4d:00:07 10.77.0.7 web\n'), /^lease of 10\.77\.0\.7 \| "add" of 02:16:3e:4d:00:07 in the database \| it waits in /], // prettier-ignore
    );
    assert.equal((await db.selectFrom('fixed_ips').select('leased').where('id', '=', fixed.id).executeTakeFirstOrThrow()).leased, 1); // prettier-ignore

    // Rows that contradict each other, and what follows from them on the host.
    const now = nowText();
    await broken(
      [
        async () =>
          db.updateTable('instances').set({ deleted: 1, deleted_at: now }).where('id', '=', db_guest.id).execute(),
        /^fixed address 10\.77\.0\.8 \| not allocated, since i-00000002 is gone \| allocated to it/,
        // Its rules go with its row, and its tap; the line of DHCP goes with its address.
        /chain nova-compute-inst-2 \|/,
        /chain nova-compute-sg-2 \|/,
        /^ipset nova-sg-2 \|/,
        /chain nova-compute-from-2-0 \|/, // prettier-ignore
        /chain nova-compute-local \| no such rule \| -m physdev .*nova2-0/,
        /chain nova-compute-local \| no such rule \| -d 10\.77\.0\.8\/32/, // prettier-ignore
        /chain nova-compute-sources \| no such rule/,
        /chain nova-compute-strangers \| no such rule/,
        /chain nova-compute-reflected \| no such rule/,
        /^interface nova2-0 \| gone with i-00000002 \| there \| deletes it$/,
      ],
      [
        async () => {
          await db.insertInto('virtual_interfaces').values({ address: '02:16:3e:4d:00:64', network_id: 1, instance_id: 999, uuid: 'u', created_at: now }).execute(); // prettier-ignore
          await createFloatingIps(db, () => [{ address: '203.0.113.9', address_number: 9 }]);
          await db.updateTable('floating_ips').set({ project_id: 'apollo', fixed_ip_id: 4711 }).where('address', '=', '203.0.113.9').execute(); // prettier-ignore
          for (const n of [200, 201])
          await db.insertInto('fixed_ips').values({ address: `10.77.0.${n}`, address_number: n, network_id: 1, reserved: 1, host: 'node9', created_at: now }).execute(); // prettier-ignore
        },
        /^virtual interface 02:16:3e:4d:00:64 \| gone with i-000003e7 \| a row \| deletes the row$/,
        /^floating address 203\.0\.113\.9 \| associated with an address that an instance has/,
        /^host node9 \| one address of its own on a multi_host network \| 10\.77\.0\.201 beside an older one/,
      ],
    );
    assert.doesNotMatch(readFileSync(conf, 'utf8'), /10\.77\.0\.8$/m);

    // The address of a floating ip that was released, and a DHCP server of a network that is gone.
    await broken(
      [
        async () => db.updateTable('floating_ips').set({ fixed_ip_id: null }).execute(),
        new RegExp(`^interface eth0 \\| no address ${floating}/32`),
        /nova-network-PREROUTING \| no such rule/,
        /nova-network-OUTPUT \| no such rule/,
        /nova-network-floating-snat \| no such rule/, // prettier-ignore
        /nova-network-POSTROUTING \| no such rule \| -s 10\.77\.0\.0\/24 -d 10\.77\.0\.0\/24 -m conntrack/,
      ],
      [async () => writeFileSync(join(networks_path, 'nova-br7.conf'), ''), /nova-br7\.conf \| no such file \| it is there \| deletes it/], // prettier-ignore
    );

    // A network that another host has: this one is its gateway no longer, whatever runs here.
    await aService(db, { host: 'net2', binary: 'nova-network', topic: 'network' });
    await db.updateTable('networks').set({ host: 'net2' }).execute();
    const moved = await doctor('--apply');
    assert.match(moved.said, /interface br100\n +expected: no address 10\.77\.0\.1\/24\n/);
    assert.match(moved.said, /DHCP server of br100\n +expected: none, since this host serves no network there\n/);
    assert.equal(moved.exit_code, 0, moved.said);
    const left = await stateOf(net1);
    assert.doesNotMatch(left, / 10\.77\.0\.1\/24|^dnsmasq|nova2/m);
    for (const own of ['DOCKER', '192.0.2.9', '192.0.2.77', 'br-mine']) assert.match(left, new RegExp(own));
    assert.match((await net1.exec(['ipset', 'save'])).stdout, /^create mine /m);
    assert.match(await rulesOf(net1), /nova-filter-top/);
  },
);

test('network doctor leaves to a person what a program cannot decide, and says what to do', { skip }, async (t) => {
  const { db, doctor } = await aHost(t, 'nova.network.manager.FlatManager');
  await createNetworks({ db, flags: Flags.of() }, { fixed_range: '10.78.0.0/24' });
  await createNetworks({ db, flags: Flags.of() }, { fixed_range: '10.79.0.0/24' });
  await aService(db, { host: 'silent', binary: 'nova-network', topic: 'network' });
  await db
    .updateTable('services')
    .set({ updated_at: '2020-01-01T00:00:00.000Z' })
    .where('host', '=', 'silent')
    .execute();
  await db.updateTable('networks').set({ host: 'silent' }).where('cidr', '=', '10.78.0.0/24').execute();
  await db.updateTable('networks').set({ host: 'never' }).where('cidr', '=', '10.79.0.0/24').execute();
  await aNetwork(db, { cidr: '10.77.0.128/25', host: 'net1' });

  const { said: text, exit_code } = await doctor('--apply');

  assert.equal(exit_code, 1);
  assert.match(text, /network 10\.78\.0\.0\/24\n.*\n +found: +it belongs to silent, whose nova-network has not reported for 60 s or was stopped\n +to do: +start it there; or, once silent is off/); // prettier-ignore
  assert.match(text, /network 10\.79\.0\.0\/24\n.*\n +found: +it belongs to never, which has no nova-network\n +--apply: +lets the first/); // prettier-ignore
  assert.match(text, /network 10\.77\.0\.128\/25\n +expected: addresses that no other network has\n +found: +10\.77\.0\.0\/24 has some of them too\n/); // prettier-ignore
  const networks = await db.selectFrom('networks').select(['cidr', 'host']).orderBy('id').execute();
  assert.deepEqual(networks.map(({ host }) => host), ['net1', 'silent', null, 'net1']); // prettier-ignore
});

test('a repair that fails is told and holds none of the others up', { skip }, async (t) => {
  const { net1, db, doctor, networks_path } = await aHost(t);
  const web = await aGuest(db, 7);
  await db.insertInto('virtual_interfaces').values({ address: '02:16:3e:4d:00:64', network_id: 1, instance_id: 999, uuid: 'u', created_at: nowText() }).execute(); // prettier-ignore
  await createNetworks({ db, flags: Flags.of() }, { fixed_range: '10.78.0.0/24', bridge: 'br101' });
  await db.updateTable('networks').set({ host: 'net1' }).execute();
  for (const command of [
    'ip link del br100',
    'ip link add br100 type veth peer name veth9', // which no bridge can be made in place of
    'iptables -F nova-network-INPUT',
    'iptables -F nova-network-snat -t nat',
  ])
    await net1.exec(['sh', '-c', command]);

  const { said: text, warned, exit_code } = await doctor('--apply');

  assert.equal(exit_code, 1);
  assert.match(warned, /^bridge br100 failed: br100 is a veth, no bridge/m);
  assert.match(text, / differences are left:\ninterface br100\n/);
  const left = said(text.split('are left:')[1] ?? '');
  assert.ok(
    left.every((one) => /br100|nova-bridge-/.test(one)),
    left.join('\n'),
  ); // of br100, or what follows from it
  assert.equal((await db.selectFrom('virtual_interfaces').selectAll().where('instance_id', '=', 999).execute()).length, 0); // prettier-ignore
  const state = await stateOf(net1);
  assert.match(state, / 10\.78\.0\.1\/24/);
  assert.match(state, new RegExp(`nova-compute-inst-${web.id} `));
  assert.ok(existsSync(join(networks_path, 'nova-br101.conf')));
});
