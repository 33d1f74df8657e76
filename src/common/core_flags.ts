import { readFileSync } from 'node:fs';
import { homedir, hostname, networkInterfaces } from 'node:os';
import { boolean, computedString, defineFlags, integer, list, string } from './flags/define.ts';

/** Flags that more than one service reads. Names as in Nova; a default that differs from Nova 2011.2's says why. */

/** The address on the interface of the default route, 127.0.0.1 without one. Nova asked the kernel by connecting a socket. */
export function myIp(): string {
  const name = defaultRouteInterface();
  const addresses = name === undefined ? [] : (networkInterfaces()[name] ?? []);
  return addresses.find((address) => address.family === 'IPv4')?.address ?? '127.0.0.1';
}

function defaultRouteInterface(): string | undefined {
  let table: string;
  try {
    table = readFileSync('/proc/net/route', 'utf8');
  } catch {
    return undefined; // not Linux: the same as no route
  }
  const routes = table
    .split('\n')
    .slice(1)
    .map((line) => line.split('\t'))
    .filter((columns) => columns[1] === '00000000' && columns[7] === '00000000'); // destination and mask 0.0.0.0
  routes.sort((a, b) => Number(a[6]) - Number(b[6])); // metric
  return routes[0]?.[0];
}

const statePath = (): string => (process.getuid?.() === 0 ? '/var/lib/nova' : `${homedir()}/.local/share/nova`);

export const coreFlags = defineFlags({
  host: computedString('the host name', hostname, 'Name of this node: its services rows and its private queues', {
    form: { pattern: '[A-Za-z0-9_.:-]{1,200}', says: 'a name: 1 to 200 of letters, digits, and _ . : -' },
  }),
  my_ip: computedString('the address on the default route', myIp, 'Address of this host'),
  // Nova put its state beside its source.
  state_path: computedString(
    '/var/lib/nova for root, ~/.local/share/nova for others',
    statePath,
    'Folder under which everything is kept that outlives a daemon',
  ),
  verbose: boolean(false, 'Log at debug level'),
  logdir: string(null, 'Folder of a log file per daemon, <daemon>.log; standard error when unset'),
  logfile: string(null, 'Log file, instead of one in --logdir'),
  node_availability_zone: string('nova', 'Availability zone of this node, as its services say at each start'),
});

export const dbFlags = defineFlags({
  sql_connection: string(
    'sqlite:///$state_path/$sqlite_db',
    'Database: sqlite:///PATH or postgresql://USER:PW@HOST/DB',
  ),
  sqlite_db: string('nova.sqlite', 'File name of the SQLite database in --state_path'),
  sql_max_retries: integer(12, 'Attempts to reach the database at start; -1 for ever', { min: -1 }),
  sql_retry_interval: integer(10, 'Seconds between those attempts', { min: 0 }),
});

export const rabbitFlags = defineFlags({
  rabbit_host: string('localhost', 'Host of the message broker'),
  rabbit_port: integer(5672, 'Port of the message broker', { min: 1, max: 65535 }),
  rabbit_use_ssl: boolean(
    false,
    'TLS to the message broker; NODE_EXTRA_CA_CERTS=FILE in the environment names a CA of your own',
  ),
  rabbit_userid: string('guest', 'Login at the broker'),
  rabbit_password: string('guest', 'Password at the broker'),
  rabbit_virtual_host: string('/', 'Virtual host at the broker'),
  // Diablo's three: a broker that is away for minutes must not end daemons.
  rabbit_max_retries: integer(0, 'Attempts to connect before the daemon gives up; 0 for ever', { min: 0 }),
  rabbit_retry_interval: integer(1, 'Seconds before the second attempt to connect', { min: 0 }),
  rabbit_retry_backoff: integer(2, 'Seconds added to the wait at each further attempt, up to 30', { min: 0 }),
  rabbit_durable_queues: boolean(false, 'Queues and exchange that outlive a restart of the broker'),
  control_exchange: string('nova', 'Name of the topic exchange'),
  fake_rabbit: boolean(false, 'Carry messages inside this process, without a broker'),
  rpc_response_timeout: integer(60, 'Seconds a call waits for its answer', { min: 1 }),
});

export const serviceFlags = defineFlags({
  report_interval: integer(10, 'Seconds between heartbeats', { min: 1 }),
  periodic_interval: integer(60, 'Seconds between runs of the periodic tasks', { min: 1 }),
  enable_new_services: boolean(true, 'A service that starts for the first time takes work at once'),
  service_down_time: integer(
    60,
    'Seconds without a heartbeat after which a service counts as down; at least twice --report_interval',
    { min: 1 },
  ),
  job_poll_interval: integer(5, 'Seconds between looks for jobs whose message was lost', { min: 1 }),
  max_concurrent_jobs: integer(16, 'Jobs a worker runs side by side', { min: 1 }),
  network_manager: string('nova.network.manager.VlanManager', 'Network manager; the same on every host'),
  ignore_flag_mismatch: boolean(false, 'Start although live services run with other values of flags that must agree'),
  graceful_stop_timeout: integer(30, 'Seconds a stopping daemon waits for its running jobs', { min: 0 }),
});

/** Where users and guests reach the APIs; where they listen is up to the API's own flags. */
export const endpointFlags = defineFlags({
  ec2_scheme: string('http', 'Scheme of the EC2 API as users see it'),
  ec2_host: string('$my_ip', 'Host of the EC2 API as users see it'),
  ec2_port: integer(8773, 'Port of the EC2 API as users and guests see it', { min: 1, max: 65535 }),
  ec2_path: string('/services/Cloud', 'Path of the EC2 API as users see it'),
  ec2_dmz_host: string('$my_ip', 'Host of the EC2 API and the metadata as guests see it'),
  osapi_scheme: string('http', 'Scheme of the OpenStack API as users see it'),
  osapi_host: string('$my_ip', 'Host of the OpenStack API as users see it'),
  osapi_port: integer(8774, 'Port of the OpenStack API as users see it', { min: 1, max: 65535 }),
  osapi_path: string('/v1.1/', "Path of the OpenStack API as users see it; Diablo's, since 1.1 is served"),
  identity_host: string('$my_ip', 'Host of the identity API as users see it'),
  identity_port: integer(5000, 'Port of the identity API as users see it', { min: 1, max: 65535 }),
  s3_host: string('$my_ip', 'Host of the object store as daemons see it'),
  s3_port: integer(3333, 'Port of the object store', { min: 1, max: 65535 }),
  s3_dmz: string('$my_ip', 'Host of the object store as guests see it'),
  region_list: list([], 'Further EC2 regions, items name=host'),
});

const NAME_FORM = {
  pattern: '[A-Za-z0-9_-]*%(0\\d)?[xd][A-Za-z0-9_-]*',
  says: 'like instance-%08x: letters, digits, _ and - around one %x or %d, which becomes the id',
};

/** What an instance and a volume are called on their host, from their number. */
export const nameFlags = defineFlags({
  instance_name_template: string('instance-%08x', 'Name of an instance at the hypervisor, from its id', {
    form: NAME_FORM,
  }),
  volume_name_template: string('volume-%08x', 'Name of a volume at its backend, from its id', { form: NAME_FORM }),
  snapshot_name_template: string('snapshot-%08x', 'Name of a volume snapshot at its backend, from its id', {
    form: NAME_FORM,
  }),
});
