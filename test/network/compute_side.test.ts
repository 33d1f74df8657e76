import assert from 'node:assert/strict';
import test from 'node:test';
import { needs } from '../rigs/needs.ts';
import { startHost } from '../rigs/netns.ts';
import { startGuest } from './guests.ts';

const skip = needs('root', 'nsenter', 'unshare', 'ip', 'iptables', 'ping');

/** What nova-compute does before it starts a guest, in a process of its own on the host. */
const setUp = (dist: string): string => `
  const { computeNetwork } = await import('${dist}/network/compute_side.js');
  const { Flags } = await import('${dist}/common/flags.js');
  const { silentLog } = await import('${dist}/common/log.js');
  const flags = Flags.of({ network_manager: 'nova.network.manager.FlatDHCPManager', flat_interface: 'up0' });
  const network = await computeNetwork({ flags, log: silentLog });
  const signal = new AbortController().signal;
  const nic = { bridge: 'br100', vlan: null, bridge_interface: null };
  await network.setupComputeNetwork([nic], signal);
  await network.setupComputeNetwork([nic], signal);`;

test('guests of a compute host reach each other, though the host forwards nothing by itself', { skip }, async (t) => {
  const node1 = await startHost(t, 'node1');
  await node1.exec(['ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'up1']);
  await node1.exec(['iptables', '-P', 'FORWARD', 'DROP']);
  const dist = new URL('../../src', import.meta.url).href;

  await node1.exec([process.execPath, '--input-type=module', '-e', setUp(dist)]);

  const guests = [await startGuest(t, node1, '02:16:3e:00:00:02'), await startGuest(t, node1, '02:16:3e:00:00:03')];
  for (const [i, guest] of guests.entries())
    await guest.exec(['ip', 'addr', 'add', `10.77.0.${i + 2}/24`, 'dev', 'eth0']);
  await guests[0]?.exec(['ping', '-c1', '-W5', '10.77.0.3']);
  assert.match((await node1.exec(['ip', 'link', 'show', 'master', 'br100'])).stdout, /up0/);
  assert.doesNotMatch((await node1.exec(['ip', 'addr', 'show', 'dev', 'br100'])).stdout, /inet /);
});
