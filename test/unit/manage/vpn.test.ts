import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { nowText } from '../../../src/common/clock.ts';
import { endQuarantine, releaseFixedIps } from '../../../src/common/db/fixed_ips.ts';
import { allNetworks } from '../../../src/common/db/networks.ts';
import { claimNetwork } from '../../../src/common/db/project_networks.ts';
import { Conflict, InvalidInput, UnsupportedOperation } from '../../../src/common/errors.ts';
import { Flags } from '../../../src/common/flags.ts';
import { vpnCommands } from '../../../src/manage/vpn.ts';
import { createVlanNetworks } from '../../../src/network/manager/create_networks.ts';
import { aDatabase, aFixedIp, anImage, anInstance, aProject } from '../../builders.ts';
import { tempDir } from '../../rigs/tmp.ts';
import { run } from './a_manage.ts';

/** Projects apollo, which has a network, and gemini; an image for VPN instances. */
async function aCloud(t: TestContext) {
  const db = await aDatabase(t);
  await aProject(db, 'apollo');
  await aProject(db, 'gemini', 'gus');
  await createVlanNetworks(
    { db, flags: Flags.of() },
    { fixed_range: '10.0.0.0/24', num_networks: 2, network_size: 16 },
  );
  await claimNetwork(db, 'apollo');
  const image_id = await anImage(db);
  return { db, flags: { vpn_image_id: String(image_id), state_path: tempDir(t) }, image_id };
}

/** An OpenVPN server, as far as the probe knows. */
async function aVpnServer(t: TestContext): Promise<number> {
  const server = createSocket('udp4');
  t.after(() => server.close());
  server.on('message', (asked, from) => {
    if (asked.length !== 15 || asked[0] !== 0x38) return;
    const answer = Buffer.concat([Buffer.from([0x40]), Buffer.alloc(13), asked.subarray(1, 9), Buffer.alloc(4)]);
    server.send(answer, from.port, from.address);
  });
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  return server.address().port;
}

test('vpn list tells where each project is reached, by which instance, and whether it answers', async (t) => {
  const { db, flags, image_id } = await aCloud(t);
  await claimNetwork(db, 'gemini');
  await anInstance(db, { project_id: 'apollo', image_id, host: 'node1', vm_state: 'active' });
  await run(db, vpnCommands, 'change', { project: 'apollo', ip: '127.0.0.1', port: await aVpnServer(t) });

  const [heading, apollo, gemini] = await run(db, vpnCommands, 'list', {}, flags);

  assert.match(heading ?? '', /^project +ip:port +private_ip +host +instance +state +vpn$/);
  assert.match(apollo ?? '', /^apollo +127\.0\.0\.1:\d+ +10\.0\.0\.2 +node1 +i-00000001 +active +up$/);
  assert.match(gemini ?? '', /^gemini +None:1001 +10\.0\.0\.18 +None +None +None +None$/);
  assert.equal((await run(db, vpnCommands, 'list', { project: 'gemini' }, flags)).length, 2);
});

test('vpn run launches an m1.tiny of the image with key and group of its own, once', async (t) => {
  const { db, flags } = await aCloud(t);

  const lines = await run(db, vpnCommands, 'run', { project: 'gemini' }, flags);

  assert.match(lines.join('\n'), /^private key: .*\/vpn\/gemini-vpn\.pem\ngemini i-00000001$/);
  assert.match(readFileSync(join(flags.state_path, 'vpn', 'gemini-vpn.pem'), 'utf8'), /BEGIN RSA PRIVATE KEY/);
  const row = await db.selectFrom('instances').selectAll().executeTakeFirstOrThrow();
  assert.deepEqual([row.project_id, row.user_id, row.key_name, row.memory_mb], ['gemini', 'gus', 'gemini-vpn', 512]);
  const rules = await db.selectFrom('security_group_rules').selectAll().orderBy('id').execute();
  assert.deepEqual(
    rules.map(({ protocol, from_port, to_port, cidr }) => [protocol, from_port, to_port, cidr]),
    [
      ['udp', 1194, 1194, '0.0.0.0/0'],
      ['icmp', -1, -1, '0.0.0.0/0'],
    ],
  );
  assert.equal((await allNetworks(db))[1]?.project_id, 'gemini');
  await assert.rejects(
    run(db, vpnCommands, 'run', { project: 'gemini' }, flags),
    (err) => err instanceof Conflict && /the VPN instance of gemini is i-00000001/.test(err.message),
  );
});

test('vpn run says who has the VPN address, or until when it waits, before anything is launched', async (t) => {
  const { db, flags } = await aCloud(t);
  const [network] = await allNetworks(db);
  const instance_id = await anInstance(db, { project_id: 'apollo', image_id: 99 });
  await aFixedIp(db, { network_id: network?.id ?? 0, instance_id, address: '10.0.0.2' });
  const apollo = () => run(db, vpnCommands, 'run', { project: 'apollo' }, flags);

  await assert.rejects(apollo(), /the VPN address 10\.0\.0\.2 of network 10\.0\.0\.0\/28 is that of i-00000001/);
  await releaseFixedIps(db, instance_id, true);
  await assert.rejects(apollo(), /10\.0\.0\.2 .* was given back a short while ago; it is free .* at the latest at 20/);
  await endQuarantine(db, '9999-01-01T00:00:00.000Z');

  assert.match((await apollo()).join(), /apollo i-00000002$/);
});

test('vpn run gives the group its rules where a former run ended before that', async (t) => {
  const { db, flags } = await aCloud(t);
  const group = { project_id: 'gemini', user_id: 'gus', name: 'gemini-vpn', description: '', created_at: nowText() };
  await db.insertInto('security_groups').values(group).execute();

  await run(db, vpnCommands, 'run', { project: 'gemini' }, flags);

  const rules = await db.selectFrom('security_group_rules').select('protocol').orderBy('id').execute();
  assert.deepEqual(
    rules.map(({ protocol }) => protocol),
    ['udp', 'icmp'],
  );
});

test('of a multi_host network vpn list and run say that no host forwards by itself', async (t) => {
  const { db, flags } = await aCloud(t);
  await db.updateTable('networks').set({ multi_host: 1 }).execute();
  const none = /10\.0\.0\.0\/28 is a multi_host network: no host forwards .*vpn change apollo IP PORT/;

  assert.match((await run(db, vpnCommands, 'run', { project: 'apollo' }, flags)).join(), none);
  assert.match((await run(db, vpnCommands, 'list', {}, flags)).join(), none);
  await run(db, vpnCommands, 'change', { project: 'apollo', ip: '203.0.113.9', port: 1194 });
  assert.doesNotMatch((await run(db, vpnCommands, 'list', {}, flags)).join(), none);
});

test('what vpn run lacks it says in one sentence', async (t) => {
  const { db, flags } = await aCloud(t);
  const refused = (over: Record<string, unknown>, Kind: typeof InvalidInput, why: RegExp) =>
    assert.rejects(
      run(db, vpnCommands, 'run', { project: 'apollo' }, { ...flags, ...over }),
      (err) => err instanceof Kind && why.test(err.message),
    );

  await refused({ vpn_image_id: 'ami-cloudpipe' }, InvalidInput, /--vpn_image_id names no image/);
  await refused({ vpn_image_id: '99' }, InvalidInput, /--vpn_image_id names no image/);
  const flat = { network_manager: 'nova.network.manager.FlatDHCPManager' };
  await refused(flat, UnsupportedOperation, /with VlanManager only/);
});

test('one address and port leads to one project', async (t) => {
  const { db } = await aCloud(t);
  await claimNetwork(db, 'gemini');
  const change = (project: string, ip: string, port: number) => run(db, vpnCommands, 'change', { project, ip, port });
  await change('apollo', '203.0.113.9', 1194);

  await assert.rejects(change('gemini', '203.0.113.9', 1194), Conflict);
  assert.deepEqual(await change('gemini', '203.0.113.9', 1195), ['gemini 203.0.113.9:1195 to 10.0.0.18']);
  await assert.rejects(change('gemini', 'nowhere', 1195), InvalidInput);
});
