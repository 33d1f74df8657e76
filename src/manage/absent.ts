import { matching } from './arguments.ts';

/** Commands that nova-manage had from Nova 2011.2 to 2012.1 and that are not here, with what does the like. */
const ABSENT: Readonly<Record<string, string>> = {
  agent: '',
  config: 'nova-manage flags prints the values that hold, and where each was given',
  drive: '',
  export: '',
  host: 'nova-manage service list names the hosts',
  logs: 'nova-manage explain tells what happened',
  shell: '',
  version: 'nova-manage --version prints it',
  vsa: '',
  'user revoke': '',
  'vm live_migration': '',
  'vpn spawn': 'nova-manage vpn run launches the VPN instance of one project',
};

/** @param asked a category, or a category's name and an action. @returns what to tell of a command that only Nova has */
export function absentText(asked: string): string | undefined {
  const [name, ...others] = matching(Object.keys(ABSENT), asked);
  if (name === undefined || others.length > 0 || name.includes(' ') !== asked.includes(' ')) return undefined;
  const instead = ABSENT[name] ?? '';
  return `Nova's ${name} is not part of this suite${instead === '' ? '' : `; ${instead}`}`;
}
