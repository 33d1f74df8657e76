import assert from 'node:assert/strict';
import { test } from 'node:test';
import { interfacesFile } from '../../../../src/compute/logic/interfaces_file.ts';
import { aNic } from '../drivers/specs.ts';

test('an injected card gets its address, one of them the gateway, and a card with DHCP keeps DHCP', () => {
  const nics = [
    aNic({ injected: true, dns: ['8.8.8.8', '8.8.4.4'] }),
    aNic(),
    aNic({ injected: true, address: '10.0.1.10', broadcast: '10.0.1.255', gateway: '10.0.1.1', dns: [] }),
  ];

  assert.equal(
    interfacesFile(nics),
    `auto lo
iface lo inet loopback

auto eth0
iface eth0 inet static
    address 10.0.0.10
    netmask 255.255.255.0
    broadcast 10.0.0.255
    gateway 10.0.0.1
    dns-nameservers 8.8.8.8 8.8.4.4

auto eth1
iface eth1 inet dhcp

auto eth2
iface eth2 inet static
    address 10.0.1.10
    netmask 255.255.255.0
    broadcast 10.0.1.255
`,
  );
});

test('an address of version 6 has a stanza of its own', () => {
  const nic = aNic({ injected: true, dns: [], address_v6: 'fd00::10/48', gateway_v6: 'fd00::1' });

  assert.ok(
    interfacesFile([nic]).endsWith(`iface eth0 inet6 static
    address fd00::10
    netmask 48
    gateway fd00::1
`),
  );
});
