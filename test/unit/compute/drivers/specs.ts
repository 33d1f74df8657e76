import type { NetworkInfo } from '../../../../src/common/network_info.ts';
import type { GuestImage, GuestSpec } from '../../../../src/compute/drivers/driver.ts';

export const aNic = (over: Partial<NetworkInfo> = {}): NetworkInfo => ({
  network_id: 1,
  network_label: 'net_1',
  bridge: 'br100',
  vlan: null,
  bridge_interface: null,
  mac: '02:16:3e:00:00:0a',
  address: '10.0.0.10',
  netmask: '255.255.255.0',
  prefix: 24,
  gateway: '10.0.0.1',
  broadcast: '10.0.0.255',
  dhcp_server: '10.0.0.1',
  dns: ['10.0.0.1'],
  injected: false,
  address_v6: null,
  gateway_v6: null,
  multi_host: false,
  ...over,
});

export const anImage = (over: Partial<GuestImage> = {}): GuestImage => ({
  id: 1,
  checksum: 'a'.repeat(64),
  size_bytes: 4,
  disk_format: 'raw',
  ...over,
});

export const aGuestSpec = (over: Partial<GuestSpec> = {}): GuestSpec => ({
  name: 'instance-0000000a',
  instance_id: 10,
  uuid: '00000000-0000-4000-8000-00000000000a',
  hostname: 'i-0000000a',
  memory_mb: 128,
  vcpus: 1,
  root_gb: 0,
  ephemeral_gb: 0,
  image: anImage(),
  kernel: null,
  ramdisk: null,
  nics: [aNic()],
  key_data: null,
  volumes: [],
  ...over,
});
