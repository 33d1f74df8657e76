import type { Difference } from '../../common/difference.ts';

type Words = Difference & { repair: string };
type Rule = [RegExp, (found: readonly string[]) => Words | null];

/** What a command that was not run says about the host as it is. Of an interface that is made, nothing more is said. */
const RULES: Rule[] = [
  [
    /^ip link add (?:link \S+ )?(?:name )?(\S+)/,
    ([, name]) => ({ what: `interface ${name}`, expected: 'there', found: 'not there', repair: 'makes it, with all that belongs to it' }), // prettier-ignore
  ],
  [
    /^ovs-vsctl .*add-port \S+ (\S+) /,
    ([, name]) => ({ what: `interface ${name}`, expected: 'a port of Open vSwitch with its VLAN', found: 'not so', repair: 'makes it' }), // prettier-ignore
  ],
  [
    /^ovs-vsctl .*del-port (\S+)$/,
    ([, name]) => ({ what: `interface ${name}`, expected: 'not there, since nothing needs it', found: 'there', repair: 'deletes it' }), // prettier-ignore
  ],
  [
    /^ip link (?:del|delete) (?:dev )?(\S+)/,
    ([, name]) => ({ what: `interface ${name}`, expected: 'not there, since nothing needs it', found: 'there', repair: 'deletes it' }), // prettier-ignore
  ],
  [
    /^ip link set (?:dev )?(\S+) master (\S+)/,
    ([, name, bridge]) => ({ what: `interface ${name}`, expected: `in ${bridge}`, found: 'not in it', repair: 'puts it in' }), // prettier-ignore
  ],
  [
    /^ip link set (?:dev )?(\S+) nomaster/,
    ([, name]) => ({ what: `interface ${name}`, expected: 'in no bridge', found: 'in one', repair: 'takes it out' }),
  ],
  [
    /^ip link set (?:dev )?(\S+) up/,
    ([, name]) => ({ what: `interface ${name}`, expected: 'up', found: 'down', repair: 'sets it up' }),
  ],
  [/^ip link set (?:dev )?(\S+) (?:alias|address)/, () => null], // goes with making it, or with putting an interface in
  [
    /^ip link set (?:dev )?(\S+) type bridge (.*)/,
    ([, name, options]) => ({ what: `interface ${name}`, expected: `${options}`, found: 'other settings', repair: 'sets them' }), // prettier-ignore
  ],
  [
    /^ip addr (?:add|replace) (\S+) .*dev (\S+)/,
    ([, address, name]) => ({ what: `interface ${name}`, expected: `address ${address}`, found: 'no such address', repair: 'adds it' }), // prettier-ignore
  ],
  [
    /^ip addr del (\S+) dev (\S+)/,
    ([, address, name]) => ({ what: `interface ${name}`, expected: `no address ${address}`, found: 'it has it', repair: 'takes it off' }), // prettier-ignore
  ],
  [
    /^ip route (?:replace|append) (.+)/,
    ([, route]) => ({ what: 'routes', expected: `${route}`, found: 'no such route', repair: 'adds it' }),
  ],
  [
    /^sysctl .*-w net\/ipv6\/conf\/(\S+)\/disable_ipv6=1 /,
    ([, name]) => ({ what: `interface ${name}`, expected: 'no IPv6 by router advertisements, since it is in a bridge', found: 'it has some', repair: 'has it forget that' }), // prettier-ignore
  ],
  [
    /^sysctl .*-w (.+)/,
    ([, settings = '']) => ({ what: 'kernel settings', expected: settings.replaceAll('/', '.').replaceAll(' ', ' and '), found: 'another value', repair: 'sets it' }), // prettier-ignore
  ],
];

/** The differences behind commands that a driver would have run. */
export function commandDifferences(commands: readonly { argv: readonly string[]; input: string }[]): Difference[] {
  const lines = commands.flatMap(({ argv, input }) =>
    argv[0] === 'ip' && argv.includes('-batch')
      ? input.split('\n').flatMap((line) => (line === '' ? [] : [`ip ${line}`]))
      : [argv.join(' ')],
  );
  const made = new Set<string>();
  return lines.flatMap((line) => {
    const [rule, words] = RULES.find(([pattern]) => pattern.test(line)) ?? [];
    const difference = rule && words ? words(rule.exec(line) ?? []) : fallback(line);
    if (difference === null || made.has(difference.what)) return [];
    if (/^ip link add/.test(line)) made.add(difference.what);
    return [difference];
  });
}

const fallback = (line: string): Words => ({
  what: 'this host',
  expected: 'as the database and the flags say',
  found: 'otherwise',
  repair: `runs: ${line}`,
});
