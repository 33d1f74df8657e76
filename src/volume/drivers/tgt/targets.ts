/** One export as tgtd has it. */
export interface TgtTarget {
  tid: number;
  iqn: string;
  /** `ready` lets initiators in. */
  state: string;
  /** Paths by number, without tgtd's own 0. */
  luns: { lun: number; path: string; readonly: boolean }[];
  /** CHAP user names; none at all would let everybody in that the ACL does. */
  accounts: string[];
  /** Addresses and initiator names that may try; `ALL`. */
  acl: string[];
  sessions: number[];
}

/** Reads what tgtd answers to `show target`. */
export function parseTargets(text: string): TgtTarget[] {
  const targets: TgtTarget[] = [];
  let target: TgtTarget | undefined;
  let section = '';
  for (const line of text.split('\n')) {
    const head = /^Target (\d+): (.*)$/.exec(line);
    if (head) {
      target = { tid: Number(head[1]), iqn: head[2] ?? '', state: '', luns: [], accounts: [], acl: [], sessions: [] };
      targets.push(target);
      continue;
    }
    if (!target) continue;
    section = /^ {4}(\S.*):$/.exec(line)?.[1] ?? section;
    const item = /^ {8}(\S.*)$/.exec(line)?.[1];
    const fact = /^ {12}([^:]+): (.*)$/.exec(line);
    if (item !== undefined) readItem(target, section, item);
    if (fact && section === 'LUN information') readFact(target, fact[1] ?? '', fact[2] ?? '');
  }
  for (const one of targets) one.luns = one.luns.filter(({ lun }) => lun !== 0);
  return targets;
}

function readItem(target: TgtTarget, section: string, item: string): void {
  const [name, value = ''] = item.split(': ');
  if (section === 'System information' && name === 'State') target.state = value;
  if (section === 'I_T nexus information' && name === 'I_T nexus') target.sessions.push(Number(value));
  if (section === 'LUN information' && name === 'LUN')
    target.luns.push({ lun: Number(value), path: '', readonly: false });
  if (section === 'Account information') target.accounts.push(item);
  if (section === 'ACL information') target.acl.push(item);
}

function readFact(target: TgtTarget, name: string, value: string): void {
  const lun = target.luns.at(-1);
  if (!lun) return;
  if (name === 'Backing store path') lun.path = value;
  if (name === 'Readonly') lun.readonly = value === 'Yes';
}

/** Reads `show connection` of one target: what each session is made of. */
export function parseConnections(text: string): { sid: number; cid: number }[] {
  const found: { sid: number; cid: number }[] = [];
  let sid = 0;
  for (const line of text.split('\n')) {
    const [, name, number] = /^\s*(Session|Connection): (\d+)$/.exec(line) ?? [];
    if (name === 'Session') sid = Number(number);
    if (name === 'Connection') found.push({ sid, cid: Number(number) });
  }
  return found;
}

/** Reads `show account`: every user name there is, of a target or not. */
export const parseAccounts = (text: string): string[] =>
  text
    .split('\n')
    .filter((line) => line.startsWith(' '))
    .map((line) => line.trim());

/** Reads `show portal`: `address:port`. */
export const parsePortals = (text: string): string[] =>
  [...text.matchAll(/^Portal: (\S+),\d+$/gm)].map(([, portal]) => portal ?? '');
