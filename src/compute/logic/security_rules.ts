import { Address4, Address6 } from 'ip-address';
import { InvalidInput, MissingParameter } from '../../common/errors.ts';

/** What one rule of a security group lets in, as a client asks for it. Numbers are ports, or type and code of ICMP. */
export interface RuleRequest {
  /** tcp, udp, icmp in any case, their numbers 6, 17, 1, or -1 for all; absent: all, which only a source group may say. */
  protocol?: string | undefined;
  from_port?: number | undefined;
  to_port?: number | undefined;
}

/** The same as a row has it: `-1` is every protocol. */
export interface RulePorts {
  protocol: string;
  from_port: number | null;
  to_port: number | null;
}

const PROTOCOLS: Readonly<Record<string, string>> = {
  tcp: 'tcp',
  udp: 'udp',
  icmp: 'icmp',
  '6': 'tcp',
  '17': 'udp',
  '1': 'icmp',
  '-1': '-1',
};

/** What a source group without a protocol (2011's form) lets in, as Nova showed it and clients revoke it. */
const ALL_OF_GROUP: readonly RulePorts[] = [
  { protocol: 'icmp', from_port: -1, to_port: -1 },
  { protocol: 'tcp', from_port: 1, to_port: 65535 },
  { protocol: 'udp', from_port: 1, to_port: 65535 },
];

/**
 * The rows that a request means: one, or of a group without a protocol three.
 * @param source what it is about: a range must come with protocol and ports, a group may leave them out
 * @throws InvalidInput, MissingParameter
 */
export function rulePorts(request: RuleRequest, source: 'cidr' | 'group'): readonly RulePorts[] {
  const { protocol, from_port, to_port } = request;
  if (protocol === undefined) {
    if (source === 'cidr')
      throw new MissingParameter('a rule for a range of addresses needs a protocol: tcp, udp, icmp or -1');
    if (from_port !== undefined || to_port !== undefined)
      throw new MissingParameter('ports came without a protocol: tcp, udp or icmp');
    return ALL_OF_GROUP;
  }
  return [portsOf(protocol, from_port, to_port, source)];
}

/** Nova refused tcp from port 0, which it took for a missing one. */
function portsOf(
  protocol: string,
  from_port: number | undefined,
  to_port: number | undefined,
  source: 'cidr' | 'group',
): RulePorts {
  const known = PROTOCOLS[protocol.toLowerCase()];
  if (known === undefined)
    throw new InvalidInput(`protocol '${protocol.slice(0, 40)}' is not one of tcp, udp, icmp and -1, which is all`);
  if (known === '-1') return { protocol: '-1', from_port: null, to_port: null };
  if (from_port === undefined || to_port === undefined) {
    if (source === 'cidr' || from_port !== to_port)
      throw new MissingParameter(
        known === 'icmp'
          ? 'a rule for icmp needs a type and a code, as from and to port: -1 and -1 are all'
          : `a rule for ${known} needs both ends of the range of ports`,
      );
    return known === 'icmp'
      ? { protocol: known, from_port: -1, to_port: -1 }
      : { protocol: known, from_port: 1, to_port: 65535 };
  }
  return known === 'icmp' ? icmp(from_port, to_port) : ports(known, from_port, to_port);
}

/** iptables takes type 255 for any, so that such a rule would open more than it says. */
const ICMP_TYPE_MAX = 254;

function icmp(type: number, code: number): RulePorts {
  const within = (n: number, max: number) => Number.isInteger(n) && n >= -1 && n <= max;
  if (!within(type, ICMP_TYPE_MAX) || !within(code, 255) || (type === -1 && code !== -1))
    throw new InvalidInput(
      `icmp type ${type} and code ${code}: a type is 0 to ${ICMP_TYPE_MAX}, a code 0 to 255, or -1 for any; a code needs a type`,
    );
  return { protocol: 'icmp', from_port: type, to_port: code };
}

function ports(protocol: string, from: number, to: number): RulePorts {
  if (from === -1 && to === -1) return { protocol, from_port: 1, to_port: 65535 };
  const port = (n: number) => Number.isInteger(n) && n >= 0 && n <= 65535;
  if (!port(from) || !port(to) || from > to)
    throw new InvalidInput(
      `ports ${from} to ${to}: each is 0 to 65535 and the first is not above the second; -1 and -1 are all`,
    );
  return { protocol, from_port: from, to_port: to };
}

/** A range as a row has it: IPv4 or IPv6, host bits cleared as AWS does; a bare address is itself alone. @throws InvalidInput */
export function ruleCidr(text: string): string {
  const given = text.trim();
  if (Address4.isValid(given)) {
    const range = new Address4(given);
    return `${range.startAddress().address}/${range.subnetMask}`;
  }
  if (Address6.isValid(given) && !given.includes('%')) {
    const range = new Address6(given);
    return `${range.startAddress().correctForm()}/${range.subnetMask}`;
  }
  throw new InvalidInput(`'${text.slice(0, 80)}' is not a range of addresses such as 10.0.0.0/24 or 2001:db8::/32`);
}

const NAME_LENGTH = 255;

/** @throws InvalidInput for a name or a description that a group cannot have */
export function checkGroupText(what: 'name' | 'description', text: string): void {
  if (text.trim() === '' || text.length > NAME_LENGTH || /[\x00-\x1f\x7f]/.test(text))
    throw new InvalidInput(
      `a security group's ${what} has 1 to ${NAME_LENGTH} characters, none of control, and is not blank; '${text.slice(0, 40)}' has ${text.length}`,
    );
  if (what === 'name' && /^sg-[0-9a-f]*$/i.test(text))
    throw new InvalidInput(`'${text.slice(0, 40)}' looks like the id of a security group; give it another name`);
}
