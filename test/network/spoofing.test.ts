import assert from 'node:assert/strict';
import { test } from 'node:test';
import { needs } from '../rigs/needs.ts';
import { until } from '../until.ts';
import { aRealCloud, ingress, REAL_CLOUD_NEEDS, type RealGuest } from './real_cloud.ts';

/** Neither a guest's nor the gateway's. */
const FORGED_IP = '10.0.0.99';
const FORGED_MAC = '02:16:3e:66:66:66';
const ROGUE_OFFER = '10.0.0.88';

test(
  'a real guest is not heard by another under a MAC or an address that is not its own, nor as a DHCP server',
  { skip: needs(...REAL_CLOUD_NEEDS), timeout: 600_000 },
  async (t) => {
    const cloud = await aRealCloud(t, { network_manager: 'nova.network.manager.FlatDHCPManager' });
    const { ann, node1 } = cloud;
    const anyone = { 'IpRanges.1.CidrIp': '0.0.0.0/0' };
    // What groups judge is open, so that only where it comes from decides.
    await ingress(ann, 'Authorize', { IpProtocol: 'icmp', FromPort: -1, ToPort: -1, ...anyone });
    for (const IpProtocol of ['tcp', 'udp'])
      await ingress(ann, 'Authorize', { IpProtocol, FromPort: 1, ToPort: 65535, ...anyone });
    const [a, b] = await Promise.all([cloud.launch(ann, node1), cloud.launch(ann, node1)]);
    await until('a reaches b', () => a.pings(b.address));
    // The real DHCP server is silent for now: who answers b is the guest a.
    const dnsmasq = (await node1.exec(['pgrep', '-x', '-P', '1', 'dnsmasq'])).stdout.trim();
    await node1.exec(['kill', '-STOP', dnsmasq]);
    await a.sh(SERVE_DHCP);

    assert.deepEqual(await heard(a, b, fromForgedIp), { echoes: 0, neighbour: '' });
    assert.deepEqual(await heard(a, b, fromForgedMac), { echoes: 0, neighbour: '' });
    assert.equal(await asksDhcp(b), '');
    const honest = await heard(a, b, (to) => `ping -c 2 -W 2 ${to}`);
    assert.equal(honest.echoes, 2, 'as itself it is heard');

    // The same without our rules: it is they that stop it, not the way it is tried.
    await node1.exec(['ebtables', '-t', 'nat', '-F', 'nova-compute-sources']);
    assert.match((await heard(a, b, fromForgedIp)).neighbour, new RegExp(a.mac));
    assert.ok((await heard(a, b, fromForgedMac)).echoes > 0);
    assert.equal(await asksDhcp(b), ROGUE_OFFER);

    await node1.exec(['kill', '-CONT', dnsmasq]);
    await cloud.terminate(ann, a, b);
  },
);

const fromForgedIp = (to: string): string =>
  `ip addr add ${FORGED_IP}/25 dev eth0; ping -c 2 -W 1 -I ${FORGED_IP} ${to}; ip addr del ${FORGED_IP}/25 dev eth0`;

/** The shell's own connection stands still meanwhile. The other's MAC is known by now, so that pings go out at once. */
const fromForgedMac = (to: string): string =>
  `own=$(cat /sys/class/net/eth0/address)
   ip link set eth0 address ${FORGED_MAC}; ping -c 2 -W 1 ${to}; ip link set eth0 address $own`;

const SERVE_DHCP = `
cat >/tmp/udhcpd.conf <<END
start ${ROGUE_OFFER}
end ${ROGUE_OFFER}
interface eth0
lease_file /tmp/leases
opt subnet 255.255.255.128
opt router 10.0.0.66
END
touch /tmp/leases
udhcpd -f /tmp/udhcpd.conf >/dev/null 2>&1 </dev/null &
echo serving`;

/** What b's own kernel tells: pings that came in, and who has the forged address. */
async function heard(a: RealGuest, b: RealGuest, trick: (to: string) => string) {
  const before = await echoesOf(b);
  await a.sh(trick(b.address));
  const neighbour = (
    await b.sh(`ip neigh show ${FORGED_IP} | grep lladdr; ip neigh flush dev eth0 >/dev/null 2>&1`)
  ).trim();
  return { echoes: (await echoesOf(b)) - before, neighbour };
}

async function echoesOf(guest: RealGuest): Promise<number> {
  const text = await guest.sh("grep '^Icmp:' /proc/net/snmp");
  const [names = [], values = []] = text
    .trim()
    .split('\n')
    .map((line) => line.split(' '));
  return Number(values[names.indexOf('InEchos')]);
}

/** The address that b is offered; '' when it hears no server. */
async function asksDhcp(guest: RealGuest): Promise<string> {
  const said = await guest.sh('udhcpc -f -n -q -i eth0 -t 4 -T 2 -A 1 -s /bin/true 2>&1');
  return /lease of (\S+) obtained/.exec(said)?.[1] ?? '';
}
