import type { Host } from '../../rigs/netns.ts';
import { tellStory } from './story.ts';

/** FlatManager takes bridges, the gateway and the way to the metadata service from its operator. */
async function makeNetwork({ node1, node2 }: { node1: Host; node2: Host }): Promise<void> {
  const bridge = 'link add br100 type bridge\nlink set br100 up\nlink set eth1 master br100\n';
  await node1.exec(['ip', '-batch', '-'], { input: `${bridge}addr add 10.0.0.1/25 dev br100\n` });
  await node2.exec(['ip', '-batch', '-'], { input: bridge });
  await node1.exec(['sysctl', '-qw', 'net.ipv4.ip_forward=1']);
  const metadata = ['-d', '169.254.169.254/32', '-p', 'tcp', '--dport', '80'];
  const to_api = ['-j', 'DNAT', '--to-destination', `${node1.address}:8773`];
  await node1.exec(['iptables', '-t', 'nat', '-A', 'PREROUTING', ...metadata, ...to_api]);
}

tellStory({
  name: 'FlatManager',
  prepare: makeNetwork,
  address: ({ address }) => new RegExp(`TINY: ip eth0 ${address}/25 static`),
  has_floating_ips: false,
  apart: false,
  needs: [],
});
