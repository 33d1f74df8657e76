import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  dhcpName,
  dnsmasqArgv,
  hostsFile,
  leasesFile,
  parseEvent,
  type DhcpNetwork,
} from '../../../../src/network/logic/dhcp_hosts.ts';

const aHost = (over = {}) => ({ mac: '02:16:3e:00:00:02', address: '10.0.0.2', hostname: 'vm1', ...over });

test('the hosts file has a line for each guest in the order of addresses', () => {
  const text = hostsFile([aHost({ address: '10.0.0.10', hostname: 'b' }), aHost({ hostname: 'a' })], 'novalocal');

  assert.equal(text, '02:16:3e:00:00:02,a.novalocal,10.0.0.2\n02:16:3e:00:00:02,b.novalocal,10.0.0.10\n');
});

test('a host name cannot add a field or a line to the hosts file, nor be read as a lease time', () => {
  const nasty = aHost({ hostname: 'x,10.0.0.1\n02:16:3e:00:00:03,y' });

  assert.equal(hostsFile([nasty], 'novalocal'), '02:16:3e:00:00:02,x10-0-0-102163e000003y.novalocal,10.0.0.2\n');
  for (const hostname of ['1h', 'infinite', '', null, '---', '日本']) {
    assert.equal(dhcpName(aHost({ hostname })), 'host-10-0-0-2');
  }
});

test('the lease file is what dnsmasq reads at its start', () => {
  assert.equal(leasesFile([aHost()], 1303000000), '1303000000 02:16:3e:00:00:02 10.0.0.2 vm1 *\n');
});

const aDhcpNetwork = (over: Partial<DhcpNetwork> = {}): DhcpNetwork => ({
  network_id: 1,
  bridge: 'br100',
  dhcp_server: '10.0.0.1',
  gateway: '10.0.0.1',
  netmask: '255.255.255.0',
  dhcp_start: '10.0.0.2',
  cidr_v6: null,
  dns: [],
  lease_max: 256,
  ...over,
});
const settings = {
  networks_path: '/n',
  dhcp_domain: 'novalocal',
  dhcp_lease_time: 120,
  dhcpbridge: '/bin/nova-dhcpbridge',
  dnsmasq_config_file: '',
  dns_server: null,
};

test('dnsmasq is told of hosts, range, lease script and router, and keeps no lease file of its own', () => {
  const argv = dnsmasqArgv([aDhcpNetwork({ cidr_v6: 'fd00::/64' })], settings);

  assert.deepEqual(argv, [
    'dnsmasq',
    '--strict-order',
    '--bind-interfaces',
    '--interface=br100',
    '--conf-file=',
    '--domain=novalocal',
    '--pid-file=/n/nova-br100.pid',
    '--listen-address=10.0.0.1',
    '--except-interface=lo',
    '--dhcp-range=set:net1,10.0.0.2,static,255.255.255.0,120s',
    '--dhcp-option=tag:net1,option:router,10.0.0.1',
    '--dhcp-lease-max=256',
    '--dhcp-hostsfile=/n/nova-br100.conf',
    '--dhcp-script=/bin/nova-dhcpbridge',
    '--leasefile-ro',
    '--enable-ra',
    '--dhcp-range=fd00::,ra-only,64',
  ]);
});

test('guests are told the DNS servers of their own network, where it has some', () => {
  const other = aDhcpNetwork({ network_id: 2, dns: ['192.0.2.53', '192.0.2.54'] });

  const argv = dnsmasqArgv([aDhcpNetwork(), other], settings);

  assert.deepEqual(
    argv.filter((word) => word.includes('dns-server')),
    ['--dhcp-option=tag:net2,option:dns-server,192.0.2.53,192.0.2.54'],
  );
});

test('an event is read with or without a host name, and what is none is none', () => {
  const mac = '02:16:3e:00:00:02';

  assert.deepEqual(parseEvent('add 02:16:3E:00:00:02 10.0.0.2 vm1\n'), { event: 'add', mac, address: '10.0.0.2' });
  assert.deepEqual(parseEvent('del 02:16:3e:00:00:02 10.0.0.2 \n'), { event: 'del', mac, address: '10.0.0.2' });
  for (const text of [
    '',
    'init',
    'add 02:16:3e:00:0',
    'add 02:16:3e:00:00:02 fd00::1',
    'tftp 02:16:3e:00:00:02 10.0.0.2',
  ])
    assert.equal(parseEvent(text), null, text);
});
