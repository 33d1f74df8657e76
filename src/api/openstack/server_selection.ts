import type { InstanceColumns, InstanceFilter, InstanceView } from '../../common/db/instance_views.ts';
import type { RequestContext } from '../../common/context.ts';
import { InvalidInput } from '../../common/errors.ts';
import { changesSince, isTrue } from './pagination.ts';
import { SERVER_STATUSES, serverStatus } from './views/status.ts';

type Wanted = (server: InstanceView) => boolean;

/** Which servers a list is of: what the database chooses, and what is seen only once a server is put together. */
export interface ServerSelection {
  filter: InstanceFilter;
  /** Undefined: all of these. */
  wanted: Wanted | undefined;
}

/**
 * What a query selects. Whoever pipes a list into `delete` counts on every selector, so each that is known here holds;
 * those that nobody knows are left alone, and of a member `host` and `deleted` too, as in Nova.
 * Source: Nova 2011.3 nova/api/openstack/servers.py, nova/compute/api.py get_all
 * @throws InvalidInput
 */
export function serverSelection({ is_admin }: RequestContext, query: URLSearchParams): ServerSelection {
  const other = NOT_OFFERED.find((name) => query.has(name));
  if (other !== undefined) throw new InvalidInput(`servers are not selected by ${other} here; leave it out`);
  const filter: InstanceFilter = { equal: columns(query) };
  const since = changesSince(query);
  if (since !== undefined) filter.changes_since = since;
  const reservation_id = query.get('reservation_id');
  if (reservation_id !== null) filter.reservation_id = reservation_id;
  const uuid = query.get('uuid');
  if (uuid !== null) filter.uuid = uuid.toLowerCase();
  if (is_admin) addAdminFilter(filter, query);
  const tests = wantedOf(query);
  return { filter, wanted: tests.length === 0 ? undefined : (server) => tests.every((test) => test(server)) };
}

/** What clients of today offer and nothing here can tell apart. */
const NOT_OFFERED = ['instance_name', 'progress', 'changes-before', 'tags', 'tags-any'];
const TEXTS = ['user_id', 'vm_state', 'task_state', 'key_name', 'hostname'] as const;

/** Another project's or user's are selected by a member as well: there are none that the member may see. */
function columns(query: URLSearchParams): InstanceColumns {
  const equal: InstanceColumns = {};
  for (const name of TEXTS) {
    const text = query.get(name);
    if (text !== null) equal[name] = text;
  }
  const project_id = query.get('project_id') ?? query.get('tenant_id');
  if (project_id !== null) equal.project_id = project_id;
  const power_state = query.get('power_state');
  if (power_state !== null) equal.power_state = /^\d{1,4}$/.test(power_state) ? Number(power_state) : -1;
  return equal;
}

function addAdminFilter(filter: InstanceFilter, query: URLSearchParams): void {
  const host = query.get('host');
  if (host !== null) filter.equal = { ...filter.equal, host };
  const deleted = query.get('deleted');
  if (deleted !== null) filter.deleted = isTrue(deleted) ? 'only' : false;
}

function wantedOf(query: URLSearchParams): Wanted[] {
  const wanted: Wanted[] = [];
  const add = (name: string, testOf: (given: string) => Wanted): void => {
    const given = query.get(name);
    if (given !== null) wanted.push(testOf(given));
  };
  add('name', nameTest);
  add('status', statusTest);
  add('image', (ref) => (server) => String(server.image_id) === lastPart(ref));
  add('flavor', (ref) => (server) => String(server.flavorid) === lastPart(ref));
  add('availability_zone', (zone) => (server) => server.availability_zone === zone);
  add('ip', (pattern) => addressTest('ip', pattern, ({ address, floating }) => [address, ...floating]));
  add('ip6', (pattern) => addressTest('ip6', pattern, ({ address_v6 }) => (address_v6 === null ? [] : [address_v6])));
  add('fixed_ip', (ip) => (server) => server.addresses.some(({ address }) => address === ip));
  add('config_drive', (asked) => () => !isTrue(asked)); // no server has one
  return wanted;
}

/** An id, or the URL that ends in it. */
export const lastPart = (ref: string): string | undefined => ref.split('/').at(-1);

function statusTest(given: string): Wanted {
  const status = given.toUpperCase();
  if (!SERVER_STATUSES.includes(status))
    throw new InvalidInput(`status is ${status.slice(0, 80)}; it is one of: ${SERVER_STATUSES.join(', ')}`);
  return (server) => serverStatus(server) === status;
}

function nameTest(pattern: string): Wanted {
  const matches = textTest('name', pattern);
  return ({ display_name }) => matches(display_name);
}

/** Nova matched at the begin of an address; of its patterns `\.` and a last `.*` are taken. */
function addressTest(
  what: string,
  pattern: string,
  of: (on_card: InstanceView['addresses'][number]) => readonly string[],
): Wanted {
  const plain = pattern.replaceAll('\\.', '.').replace(/\.\*\$?$/, '');
  const matches = textTest(what, plain.startsWith('^') ? plain : `^${plain}`);
  return ({ addresses }) => addresses.some((on_card) => of(on_card).some(matches));
}

/**
 * Nova took any regular expression, which lets one request hold the service up for minutes. Here: a part of the text,
 * with `^` at its begin and `$` at its end.
 */
function textTest(what: string, pattern: string): (text: string) => boolean {
  const [, begin, part = '', end] = /^(\^?)(.*?)(\$?)$/s.exec(pattern) ?? [];
  if (/[*+?()[\]{}|\\]/.test(part))
    throw new InvalidInput(
      `${what} is ${pattern.slice(0, 80)}; it is a part of it, ^ before it and $ after it are taken`,
    );
  return (text) => {
    if (begin && end) return text === part;
    if (begin) return text.startsWith(part);
    return end ? text.endsWith(part) : text.includes(part);
  };
}
