import { ipv4Number } from './ipv4.ts';
import { MetadataSlots } from './metadata_slots.ts';

/**
 * What passes between a guest and QEMU's user-mode network, frame by frame; remembered is only who is connected to the
 * metadata service (metadata_slots.ts).
 *
 *   guest                                        user-mode network
 *     to 169.254.169.254 tcp 80    -- rewritten ->  to `metadata` tcp 80
 *     from 169.254.169.254         <- rewritten --  from `metadata`
 *     to the host's loopback       -- dropped
 *     to other link-local places   -- dropped
 *     the rest                     <------------->
 *
 * The rewriting is needed because QEMU takes connections for a program only at addresses of the guest's own network.
 * The dropping is needed because QEMU turns the gateway, the broadcast address and 127.0.0.0/8 into the host's own
 * loopback, where databases and brokers listen that trust whoever reaches them; and because a host that is itself a
 * cloud's guest has credentials at 169.254.169.254.
 */
export interface FramePlan {
  /** Dotted. */
  gateway: string;
  metadata: string;
}

export interface FrameRules {
  /** Rewrites a frame that the guest sent, in place. @returns false to drop it */
  fromGuest(frame: Uint8Array): boolean;
  /** The same for a frame that goes to the guest. */
  toGuest(frame: Uint8Array): boolean;
}

const METADATA_SERVICE = ipv4Number('169.254.169.254');
const BROADCAST = 0xffffffff;

const ETHERTYPE = 12;
const ARP = 0x0806;
const IPV4 = 0x0800;
const IP = 14; // where the IPv4 header begins
const IP_FRAGMENT = IP + 6;
const IP_PROTOCOL = IP + 9;
const IP_CHECKSUM = IP + 10;
const IP_SOURCE = IP + 12;
const IP_DESTINATION = IP + 16;
const ICMP = 1;
const TCP = 6;
const UDP = 17;
const DHCP_SERVER = 67;
const TCP_FLAGS = 13;
const FIN = 0x01;
const SYN = 0x02;
const ACK = 0x10;

/** @param now_ms a clock that only goes forward */
export function frameRules(plan: FramePlan, now_ms: () => number): FrameRules {
  const gateway = ipv4Number(plan.gateway);
  const metadata = ipv4Number(plan.metadata);
  const slots = new MetadataSlots(now_ms);
  return {
    fromGuest(frame) {
      const packet = ipv4Packet(frame);
      if (packet === undefined) return isArp(frame);
      const { view, destination } = packet;
      if (destination === METADATA_SERVICE) {
        if (!isTcpTo(packet, 80)) return false;
        if (hasFlag(packet, SYN) && !slots.take(portAt(packet, packet.source, 0))) return false;
        readdress(view, IP_DESTINATION, metadata, packet.transport + 16);
        return true;
      }
      if (destination === gateway || destination === BROADCAST) return mayReachHost(packet);
      const first = destination >>> 24;
      return first !== 127 && first !== 0 && destination >>> 16 !== METADATA_SERVICE >>> 16 && destination !== metadata;
    },
    toGuest(frame) {
      const packet = ipv4Packet(frame);
      if (packet === undefined) return isArp(frame);
      const { view, source } = packet;
      if (source !== metadata) return true;
      if (packet.protocol !== TCP || packet.fragment_offset !== 0) return false;
      slots.heard(portAt(packet, packet.destination, 2), hasFlag(packet, FIN));
      readdress(view, IP_SOURCE, METADATA_SERVICE, packet.transport + 16);
      return true;
    },
  };
}

interface Packet {
  view: DataView;
  protocol: number;
  source: number;
  destination: number;
  fragment_offset: number;
  /** Where the TCP or UDP header begins; all of a TCP header's first 20 bytes are there. */
  transport: number;
}

/** Undefined for what is no IPv4, and for what is cut off. */
function ipv4Packet(frame: Uint8Array): Packet | undefined {
  if (frame.byteLength < IP + 20) return undefined;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (view.getUint16(ETHERTYPE) !== IPV4) return undefined;
  const transport = IP + (view.getUint8(IP) & 0x0f) * 4;
  const protocol = view.getUint8(IP_PROTOCOL);
  const fragment_offset = view.getUint16(IP_FRAGMENT) & 0x1fff;
  const needed = protocol === TCP ? 20 : 8;
  if (transport < IP + 20 || (fragment_offset === 0 && frame.byteLength < transport + needed)) return undefined;
  return {
    view,
    protocol,
    fragment_offset,
    transport,
    source: view.getUint32(IP_SOURCE),
    destination: view.getUint32(IP_DESTINATION),
  };
}

const isArp = (frame: Uint8Array): boolean =>
  frame.byteLength >= 42 && frame[12] === ARP >> 8 && frame[13] === (ARP & 0xff);

function isTcpTo({ view, protocol, fragment_offset, transport }: Packet, port: number): boolean {
  return protocol === TCP && fragment_offset === 0 && view.getUint16(transport + 2) === port;
}

/**
 * To the gateway a guest may send what keeps its network going, DHCP and ping, and its answers to connections that
 * came from there (a forwarded port), but not the SYN alone that begins one of its own.
 */
function mayReachHost(packet: Packet): boolean {
  const { view, protocol, fragment_offset, transport } = packet;
  if (fragment_offset !== 0) return false; // nobody could tell what it is a part of
  if (protocol === ICMP) return true;
  if (protocol === UDP) return view.getUint16(transport + 2) === DHCP_SERVER;
  if (protocol !== TCP) return false;
  return !hasFlag(packet, SYN) || hasFlag(packet, ACK);
}

const hasFlag = ({ view, transport }: Packet, flag: number): boolean =>
  (view.getUint8(transport + TCP_FLAGS) & flag) !== 0;

/** An address with the port at `at` of the TCP header, as one number. */
const portAt = ({ view, transport }: Packet, address: number, at: number): number =>
  address * 0x10000 + view.getUint16(transport + at);

/** Puts another address at `at`, and corrects the two checksums that cover it by the difference (RFC 1624). */
function readdress(view: DataView, at: number, address: number, transport_checksum: number): void {
  const before = view.getUint32(at);
  view.setUint32(at, address);
  for (const checksum of [IP_CHECKSUM, transport_checksum]) {
    let sum = ~view.getUint16(checksum) & 0xffff;
    sum += (~(before >>> 16) & 0xffff) + (~before & 0xffff) + (address >>> 16) + (address & 0xffff);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    view.setUint16(checksum, ~sum & 0xffff);
  }
}
