import assert from 'node:assert/strict';
import { join } from 'node:path';
import test from 'node:test';
import { connectDb } from '../../src/common/db/connect.ts';
import { hostIp } from '../../src/common/db/fixed_ips.ts';
import { syncDb } from '../../src/common/db/migrate.ts';
import { Flags } from '../../src/common/flags.ts';
import { createNetworks, createVlanNetworks } from '../../src/network/manager/create_networks.ts';
import { aProject } from '../builders.ts';
import { startDaemon } from '../rigs/daemon.ts';
import { needs } from '../rigs/needs.ts';
import { startLan, type Host } from '../rigs/netns.ts';
import { OPENVSWITCH, startOpenVswitch } from '../rigs/openvswitch.ts';
import { atEnd, projectRoot, tempDir, type Scope } from '../rigs/tmp.ts';
import { said } from './doctor_says.ts';

const PROGRAMS = ['root', 'nsenter', 'unshare', 'ip', 'iptables', 'ip6tables', 'dnsmasq'];

/** A host whose nova-network set it up and looks after nothing by itself for an hour. */
async function aHost(t: Scope, given: Record<string, unknown>) {
  const { hosts } = await startLan(t, ['net1']);
  const [net1] = hosts as [Host];
  const state_path = tempDir(t, 'state');
  const sql_connection = `sqlite:///${join(state_path, 'nova.sqlite')}`;
  const db = await connectDb(sql_connection);
  atEnd(t, () => db.destroy());
  await syncDb(db);
  await aProject(db);
  const flags = {
    ...{ fake_rabbit: true, state_path, sql_connection, fixed_range: '10.77.0.0/24', ec2_dmz_host: net1.address },
    ...{ periodic_interval: 3600, ...given },
  };
  const start = async () => {
    const { flagfile } = await startDaemon(t, 'nova-network', { host: net1, flags });
    const doctor = async (...args: string[]) => {
      const argv = [process.execPath, join(projectRoot(), 'bin/nova-manage'), `--flagfile=${flagfile}`];
      return (await net1.exec([...argv, 'network', 'doctor', ...args], { ok: [0, 1] })).stdout;
    };
    /** Breaks one thing: the doctor names it, puts it right, and then has nothing to tell. */
    return async (how: string, ...wanted: readonly RegExp[]) => {
      await net1.exec(['sh', '-c', how]);
      const text = await doctor('--apply');
      const told = said(text.split('put right')[0] ?? '');
      for (const pattern of wanted) assert.ok(told.some((one) => pattern.test(one)), `${pattern} after ${how} in:\n${text}`); // prettier-ignore
      for (const one of told) assert.ok(wanted.some((pattern) => pattern.test(one)), `${how} is told as: ${one}`); // prettier-ignore
      assert.equal(await doctor(), 'nothing differs\n', how);
    };
  };
  return { net1, db, start, pid: `${state_path}/networks/nova-br100.pid` };
}

test(
  'network doctor knows VLANs, their bridges and what keeps projects apart',
  { skip: needs(...PROGRAMS, ...OPENVSWITCH) },
  async (t) => {
    const { net1, db, start, pid } = await aHost(t, {
      network_manager: 'nova.network.manager.VlanManager',
      linuxnet_interface_driver: 'nova.network.linux_net.LinuxOVSInterfaceDriver',
    });
    await startOpenVswitch(t, { host: net1 });
    const asked = { fixed_range: '10.77.0.0/24', num_networks: 2, network_size: 16, project_id: 'apollo' };
    await createVlanNetworks({ db, flags: Flags.of() }, asked);
    const broken = await start();

    await broken('true');
    await broken('ovs-vsctl del-port vlan100', /^interface vlan100 \|/);
    await broken('ip link set vlan100 nomaster', /^interface vlan100 \| in br100 \| not in it/);
    await broken('ip addr del 10.77.0.17/28 dev br101', /^interface br101 \| address 10\.77\.0\.17\/28 \|/);
    await broken(`kill $(cat ${pid})`, /^DHCP server of br100 \| a dnsmasq \| none \|/);
    await broken(
      'iptables -t mangle -F nova-network-projects',
      /^iptables table mangle chain nova-network-projects \|/,
    );
    await broken('iptables -t nat -F nova-network-PREROUTING', /^iptables table nat chain nova-network-PREROUTING \|/);
  },
);

test(
  'network doctor knows the own addresses of a host on multi_host networks, and IPv6',
  { skip: needs(...PROGRAMS) },
  async (t) => {
    const given = { network_manager: 'nova.network.manager.FlatDHCPManager', use_ipv6: true };
    const { db, start, pid } = await aHost(t, given);
    await createNetworks(
      { db, flags: Flags.of({ use_ipv6: true }) },
      { fixed_range: '10.77.0.0/24', fixed_range_v6: 'fd00:77::/64', multi_host: true },
    );
    const broken = await start();
    assert.equal(await hostIp(db, 1, 'net1'), '10.77.0.2');

    await broken('true');
    await broken('ip addr del 10.77.0.2/24 dev br100', /^interface br100 \| address 10\.77\.0\.2\/24 \|/);
    await broken('ip addr del fd00:77::a4d:2/64 dev br100', /^interface br100 \| address fd00:77::a4d:2\/64 \|/);
    await broken(`kill $(cat ${pid})`, /^DHCP server of br100 \| a dnsmasq \| none \|/);
    await broken('ip6tables -F nova-network-FORWARD', /^ip6tables table filter chain nova-network-FORWARD \|/);
    await broken('sysctl -qw net.ipv6.conf.all.forwarding=0', /^kernel settings \| net\.ipv6\.conf\.all\.forwarding=1/);
  },
);
