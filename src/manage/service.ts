import { clock, textIn } from '../common/clock.ts';
import { serviceFlags } from '../common/core_flags.ts';
import { computeNodeOf } from '../common/db/compute_nodes.ts';
import { instancesOfHost } from '../common/db/instances.ts';
import { allServices, deleteService, setServiceDisabled, type ServiceRow } from '../common/db/services.ts';
import { HostNotFound, ServiceNotFound } from '../common/errors.ts';
import { computeClient } from '../compute/rpc.ts';
import { optional, text, verb, type Manage, type Noun } from './noun.ts';
import { table } from './table.ts';
import { agoText } from './time_text.ts';

const host = text('Name of the host');
const service = text('Name of the executable, such as nova-compute');

const switching = (disabled: boolean) =>
  verb({
    summary: disabled ? 'Give a service no new work; what runs goes on' : 'Give a service work again',
    args: { host, service },
    run: (m, { host, service }) => setServiceDisabled(m.db, host, service, disabled),
  });

/** Source: Nova 2011.3 bin/nova-manage ServiceCommands. */
export const serviceCommands: Noun = {
  name: 'service',
  summary: 'Daemons, and what hosts have to give',
  verbs: {
    list: verb({
      summary: 'Print host, service, enabled or disabled, :-) or XXX, and its last report',
      details:
        'XXX: no report for one and a half times --report_interval, or the service was stopped. The scheduler gives\n' +
        'a silent service up after --service_down_time.',
      args: { host: optional(host), service: optional(service) },
      run: list,
    }),
    enable: switching(false),
    disable: switching(true),
    delete: verb({
      summary: 'Forget a service that is down for good',
      details:
        'Refused while it reports, or did within --service_down_time without having been stopped. When it starts again, it is back.',
      args: { host, service },
      run: (m, { host, service }) =>
        deleteService(m.db, host, service, textIn(-m.flags.read(serviceFlags).service_down_time)),
    }),
    describe_resource: verb({
      summary: "Print a host's processors, memory and disk: all, in use, and by project",
      args: { host },
      run: describeResource,
    }),
    update_resource: verb({
      summary: 'Have nova-compute count what its host has to give, and wait for it',
      args: { host },
      run: async (m, { host }) =>
        computeClient(await m.bus())
          .at(host)
          .updateAvailableResource(m.ctx, {}),
    }),
  },
};

async function list(m: Manage, wanted: { host: string | undefined; service: string | undefined }): Promise<void> {
  const alive_s = 1.5 * m.flags.read(serviceFlags).report_interval;
  const all = await allServices(m.db);
  if (wanted.host !== undefined && !all.some((row) => row.host === wanted.host))
    throw new HostNotFound(`no service ever ran on a host ${wanted.host}`);
  if (wanted.service !== undefined && !all.some((row) => row.binary === wanted.service))
    throw new ServiceNotFound(`no ${wanted.service} ever ran on any host`);
  const rows = all.filter(
    (row) =>
      (wanted.host === undefined || row.host === wanted.host) &&
      (wanted.service === undefined || row.binary === wanted.service),
  );
  for (const line of table(rows.map((row) => listed(row, alive_s)))) m.out(line);
}

function listed(row: ServiceRow, alive_s: number): string[] {
  const reported = row.updated_at ?? row.created_at;
  const age_s = (clock.now().getTime() - Date.parse(reported)) / 1000;
  const stopped = row.incarnation === '';
  return [
    row.host.padEnd(10),
    row.binary.padEnd(10),
    row.disabled ? 'disabled' : 'enabled',
    !stopped && age_s <= alive_s ? ':-)' : 'XXX',
    reported,
    stopped ? 'stopped' : agoText(reported),
  ];
}

async function describeResource(m: Manage, { host }: { host: string }): Promise<void> {
  const node = await computeNodeOf(m.db, host);
  const instances = await instancesOfHost(m.db, host);
  const projects = [...new Set(instances.map((instance) => instance.project_id))].sort();
  const sum = (project: string, of: 'vcpus' | 'memory_mb' | 'local_gb') =>
    String(instances.reduce((total, one) => total + (one.project_id === project ? one[of] : 0), 0));
  const rows = [
    ['HOST', 'PROJECT', 'cpu', 'mem(mb)', 'disk(gb)'],
    [host, '(total)', ...[node.vcpus, node.memory_mb, node.local_gb].map(String)],
    [host, '(used)', ...[node.vcpus_used, node.memory_mb_used, node.local_gb_used].map(String)],
    ...projects.map((id) => [host, id, sum(id, 'vcpus'), sum(id, 'memory_mb'), sum(id, 'local_gb')]),
  ];
  for (const line of table(rows, [2, 3, 4])) m.out(line);
}
