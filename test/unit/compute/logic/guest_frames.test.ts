import assert from 'node:assert/strict';
import { test } from 'node:test';
import { frameRules } from '../../../../src/compute/logic/guest_frames.ts';

const GUEST = '10.0.0.10';
const GATEWAY = '10.0.0.1';
const METADATA = '10.0.0.253';
const plan = { gateway: GATEWAY, metadata: METADATA };
const rules = frameRules(plan, () => 0);

interface FrameSpec {
  from?: string;
  to: string;
  protocol?: 'tcp' | 'udp' | 'icmp';
  port?: number;
  from_port?: number;
  flags?: number;
  fragment_offset?: number;
  data?: string;
}

const FIN = 0x01;
const SYN = 0x02;
const RST = 0x04;
const ACK = 0x10;

/** A frame with right checksums. */
function aFrame({ from = GUEST, to, protocol = 'tcp', port = 80, flags = SYN, ...rest }: FrameSpec): Buffer {
  const number = { icmp: 1, tcp: 6, udp: 17 }[protocol];
  const payload = Buffer.alloc((protocol === 'tcp' ? 20 : 8) + (rest.data?.length ?? 0));
  payload.writeUInt16BE(rest.from_port ?? 40000, 0);
  payload.writeUInt16BE(port, 2);
  if (protocol === 'tcp') payload.set([0x50, flags], 12);
  payload.write(rest.data ?? '', payload.length - (rest.data?.length ?? 0));
  const ip = Buffer.alloc(20);
  ip.set([0x45, 0]);
  ip.writeUInt16BE(20 + payload.length, 2);
  ip.writeUInt16BE(rest.fragment_offset ?? 0, 6);
  ip.set([64, number], 8);
  ip.set(from.split('.').map(Number), 12);
  ip.set(to.split('.').map(Number), 16);
  ip.writeUInt16BE(checksum(ip), 10);
  if (protocol === 'tcp') payload.writeUInt16BE(checksum(pseudo(ip, payload), payload), 16);
  return Buffer.concat([Buffer.from([...Array(12).fill(2), 0x08, 0x00]), ip, payload]);
}

const pseudo = (ip: Buffer, payload: Buffer): Buffer =>
  Buffer.concat([ip.subarray(12, 20), Buffer.from([0, 6, payload.length >> 8, payload.length & 0xff])]);

/** RFC 1071; 0 over bytes that hold their own right checksum. */
function checksum(...parts: Buffer[]): number {
  const bytes = Buffer.concat([...parts, Buffer.alloc(parts.at(-1)!.length % 2)]);
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function assertWhole(frame: Buffer): void {
  const ip = frame.subarray(14, 34);
  const payload = frame.subarray(34);
  assert.equal(checksum(ip), 0, 'IP checksum');
  assert.equal(checksum(pseudo(ip, payload), payload), 0, 'TCP checksum');
}

const address = (frame: Buffer, at: number): string => frame.subarray(at, at + 4).join('.');

test('what a guest sends to 169.254.169.254 goes to the stand-in, and the answers come from 169.254.169.254', () => {
  for (const data of ['', 'x', 'GET / HTTP/1.0\r\n\r\n']) {
    const there = aFrame({ to: '169.254.169.254', flags: ACK, data });
    assert.equal(rules.fromGuest(there), true);
    assert.equal(address(there, 30), METADATA);
    assertWhole(there);

    const back = aFrame({ from: METADATA, to: GUEST, flags: ACK, data });
    assert.equal(rules.toGuest(back), true);
    assert.equal(address(back, 26), '169.254.169.254');
    assertWhole(back);
  }
});

test('a guest reaches the world, other link-local places and the stand-in itself excepted', () => {
  for (const to of ['8.8.8.8', '10.0.0.254', '192.168.0.1']) {
    const frame = aFrame({ to, port: 443 });
    assert.equal(rules.fromGuest(frame), true, to);
    assert.equal(address(frame, 30), to);
  }
  assert.equal(rules.fromGuest(aFrame({ to: '8.8.8.8', fragment_offset: 185 })), true);
  for (const to of ['169.254.1.1', '127.0.0.1', '127.9.9.9', '0.0.0.0', METADATA])
    assert.equal(rules.fromGuest(aFrame({ to })), false, to);
  assert.equal(rules.fromGuest(aFrame({ to: '169.254.169.254', port: 22 })), false);
  assert.equal(rules.fromGuest(aFrame({ to: '169.254.169.254', protocol: 'udp' })), false);
});

test('a guest cannot begin a connection to the loopback of the host, which the gateway stands for', () => {
  for (const to of [GATEWAY, '255.255.255.255']) {
    assert.equal(rules.fromGuest(aFrame({ to, port: 5672 })), false);
    assert.equal(rules.fromGuest(aFrame({ to, protocol: 'udp', port: 53 })), false);
    assert.equal(rules.fromGuest(aFrame({ to, flags: ACK, fragment_offset: 1 })), false);
  }
});

test('a guest gets DHCP and ping from the gateway, and answers connections that came through it', () => {
  assert.equal(rules.fromGuest(aFrame({ to: '255.255.255.255', from: '0.0.0.0', protocol: 'udp', port: 67 })), true);
  assert.equal(rules.fromGuest(aFrame({ to: GATEWAY, protocol: 'icmp' })), true);
  assert.equal(rules.fromGuest(aFrame({ to: GATEWAY, flags: SYN | ACK })), true);
  assert.equal(rules.fromGuest(aFrame({ to: GATEWAY, flags: ACK })), true);
  assert.equal(rules.toGuest(aFrame({ from: GATEWAY, to: GUEST })), true);
});

test('ARP passes; what is cut off or neither ARP nor IPv4 does not', () => {
  const arp = Buffer.alloc(42);
  arp.writeUInt16BE(0x0806, 12);
  const v6 = Buffer.alloc(80);
  v6.writeUInt16BE(0x86dd, 12);
  const whole = aFrame({ to: '8.8.8.8' });

  assert.equal(rules.fromGuest(arp), true);
  assert.equal(rules.toGuest(arp), true);
  assert.equal(rules.fromGuest(v6), false);
  for (const length of [0, 10, 20, 33, 40, 53])
    assert.equal(rules.fromGuest(whole.subarray(0, length)), false, `${length}`);
  assert.equal(rules.fromGuest(whole), true);
});

/** A guest and the metadata service, each by the guest's port; `at` sets the clock, in seconds. */
function aCard() {
  let now_ms = 0;
  const card = frameRules(plan, () => now_ms);
  return {
    begins: (from_port: number) => card.fromGuest(aFrame({ to: '169.254.169.254', from_port })),
    sends: (from_port: number, flags: number) =>
      card.fromGuest(aFrame({ to: '169.254.169.254', from_port, flags, data: 'GET' })),
    hears: (port: number, flags: number) =>
      card.toGuest(aFrame({ from: METADATA, to: GUEST, from_port: 80, port, flags })),
    at: (seconds: number) => (now_ms = seconds * 1000),
  };
}
const PORTS = Array.from({ length: 16 }, (_, n) => 50_000 + n);

test('a guest has sixteen connections to the metadata service at once, and another when one has ended', () => {
  const { begins, sends, hears } = aCard();
  for (const port of PORTS) {
    assert.equal(begins(port), true);
    hears(port, SYN | ACK);
    assert.equal(sends(port, ACK), true);
  }
  assert.equal(begins(60_000), false);

  hears(PORTS[3]!, FIN | ACK);
  assert.equal(begins(60_000), true);
  assert.equal(begins(60_001), false);
});

test('a guest gets no further connection by what it says itself, or has the other side say', () => {
  const { begins, sends, hears } = aCard();
  for (const port of PORTS) begins(port);

  for (const port of PORTS) {
    sends(port, RST | ACK);
    sends(port, FIN | ACK);
    hears(port, RST);
    hears(port, ACK);
    assert.equal(begins(port), false, 'the process of this port may live');
  }
  assert.equal(begins(60_000), false);
});

test('a connection that was cut off is forgotten when the other side has been silent for a minute', () => {
  const { begins, hears, at } = aCard();
  for (const port of PORTS) begins(port);
  at(50);
  hears(PORTS[0]!, ACK);
  at(60);

  for (const port of PORTS.slice(1)) assert.equal(begins(port), true);
  assert.equal(begins(PORTS[0]!), false);
});
