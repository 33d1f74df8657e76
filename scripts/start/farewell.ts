import { execFileSync } from 'node:child_process';
import { relative } from 'node:path';
import { ownLibvirtdUri } from '../own_libvirtd.ts';
import type { Cloud } from './cloud.ts';
import { DEFAULT_PORTS, libvirtDir } from './flagfile.ts';
import type { Guest } from './launch.ts';
import { isThere } from './mode.ts';
import type { Mode, StateFolder } from './state_folder.ts';

/** How to go on: what is printed once the guest has answered. */
export function farewell(cloud: Cloud, state: StateFolder, mode: Mode, guest: Guest): string {
  const { ec2, openstack, identity, s3 } = cloud.endpoints;
  const moved = Object.entries(DEFAULT_PORTS).filter(
    ([name, port]) => cloud.ports[name as keyof typeof DEFAULT_PORTS] !== port,
  );
  const sections: [string, string[]][] = [
    ['The guest', guestLines(state, mode, guest)],
    [
      'The endpoints',
      [
        `EC2        ${ec2}`,
        `OpenStack  ${openstack}`,
        `Identity   ${identity}`,
        `S3         ${s3}`,
        ...(moved.length > 0
          ? [`(not at ${moved.map(([, port]) => port).join(', ')}: another program listens there)`]
          : []),
      ],
    ],
    ['Three commands to try, in another shell', [`. ${here(state.path('novarc'))}`, ...tryCommands(guest)]],
    [
      'What happened, and the logs',
      [
        `bin/nova-manage --flagfile=${here(state.path('nova.flags'))} explain ${guest.ec2_id}`,
        here(state.path('logs')),
      ],
    ],
  ];
  return sections.map(([title, lines]) => `\n${title}\n${lines.map((line) => `    ${line}`).join('\n')}`).join('\n');
}

function guestLines(state: StateFolder, mode: Mode, { ec2_id, address, reached_at }: Guest): string[] {
  if (mode.driver === 'fake') return [`${ec2_id} ${address}: a fake, which exists in the database alone`];
  const [web, shell] = [reached_at['80'], reached_at['2222']?.replace(':', ' ')];
  return [
    `${ec2_id} ${address}`,
    `curl http://${web}/instance-id`,
    `echo hostname | nc -w 2 ${shell}      (a root shell: this is a test guest)`,
    ...(mode.driver === 'libvirt'
      ? [`virsh -c '${mode.libvirtd === 'own' ? ownLibvirtdUri(libvirtDir(state)) : 'qemu:///system'}' list`]
      : []),
  ];
}

const here = (path: string): string => {
  const short = relative(process.cwd(), path);
  return short.startsWith('..') ? path : short;
};

interface Command {
  line: string;
  /** Undefined when it can be run here, else how to get the client. */
  lacks?: string;
}

/** Three with clients that are here, as far as there are; what each needs is in the novarc. */
export function tryCommands({ ec2_id }: Pick<Guest, 'ec2_id'>): string[] {
  const boto = ['python3', '/usr/bin/python3'].find((python) => canImport(python, 'boto'));
  const all: Command[] = [
    {
      line: 'aws --endpoint-url $EC2_URL ec2 describe-instances --output table',
      ...lacking(isThere('aws'), 'awscli'),
    },
    {
      line:
        'curl -s -H "X-Auth-Token: $(curl -si -H "X-Auth-User: $NOVA_USERNAME" -H "X-Auth-Key: $NOVA_API_KEY"' +
        ` -H "X-Auth-Project-Id: $NOVA_PROJECT_ID" $NOVA_URL | sed -n 's/\\r$//; s/^x-auth-token: //Ip')" \${NOVA_URL}$NOVA_PROJECT_ID/servers`,
      ...lacking(isThere('curl'), 'curl'),
    },
    {
      line:
        `${boto ?? 'python3'} -c "import boto, os; e = os.environ; print(boto.connect_ec2_endpoint(e['EC2_URL'], e['EC2_ACCESS_KEY'],` +
        ` e['EC2_SECRET_KEY']).get_console_output('${ec2_id}').output)"`,
      ...lacking(boto !== undefined, 'python3-boto'),
    },
    { line: 'euca-describe-instances', ...lacking(isThere('euca-describe-instances'), 'euca2ools') },
  ];
  const able = all.filter(({ lacks }) => lacks === undefined);
  return [...able, ...all.filter(({ lacks }) => lacks !== undefined)]
    .slice(0, 3)
    .map(({ line, lacks }) => (lacks === undefined ? line : `${line}      # once there is: ${lacks}`));
}

const lacking = (is_there: boolean, debian_package: string): Pick<Command, 'lacks'> =>
  is_there ? {} : { lacks: `apt-get install ${debian_package}` };

function canImport(python: string, module: string): boolean {
  try {
    execFileSync(python, ['-c', `import ${module}`], { stdio: 'ignore', timeout: 20_000 });
    return true;
  } catch {
    return false;
  }
}
