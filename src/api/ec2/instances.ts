import { clock } from '../../common/clock.ts';
import type { InstanceView } from '../../common/db/instance_views.ts';
import { action } from './deps.ts';
import { filters } from './filters.ts';
import { formatId } from './ids.ts';
import { instancePage, instancesById } from './instance_query.ts';
import { stateName, viewReservations, viewState, zoneOf } from './instance_view.ts';
import { pagingParams } from './paging.ts';
import { bool, instanceId, list, optional } from './params.ts';
import type { XmlObject } from './xml.ts';

export const describeInstances = action('DescribeInstances', {
  about:
    "Instances of the project (an administrator's: of all), by reservation; a terminated one for an hour, by its id",
  params: { InstanceId: list(instanceId()), Filter: filters(), ...pagingParams },
  roles: 'all',
  cached: true,
  async run(ctx, { InstanceId, Filter, ...paging }, deps, version) {
    const { page, nextToken } = await instancePage(ctx, deps, { ids: InstanceId, filters: Filter, ...paging });
    return { reservationSet: viewReservations(ctx, page, { ...deps.settings, version }), nextToken };
  },
});

export const describeInstanceStatus = action('DescribeInstanceStatus', {
  about: 'How instances do, as far as their hypervisor can tell',
  params: {
    InstanceId: list(instanceId()),
    IncludeAllInstances: optional(bool(), false),
    Filter: filters(),
    ...pagingParams,
  },
  roles: 'all',
  async run(ctx, { InstanceId, IncludeAllInstances, Filter, ...paging }, deps) {
    const running = IncludeAllInstances ? [] : [{ Name: 'instance-state-name', Value: ['running'] }];
    const asked = { ids: InstanceId, filters: [...Filter, ...running], ...paging };
    const { page, nextToken } = await instancePage(ctx, deps, asked);
    return { instanceStatusSet: page.map(viewStatus), nextToken };
  },
});

/** Source: Nova 2011.2 nova/compute/power_state.py */
const POWER_RUNNING = 1;

/** What is known of a guest is what its hypervisor says: nobody looks inside. */
function viewStatus(instance: InstanceView): XmlObject {
  const running = stateName(instance) === 'running';
  const well = instance.power_state === POWER_RUNNING || instance.task_state === 'rebooting';
  const status = !running
    ? { status: 'not-applicable' }
    : {
        status: well ? 'ok' : 'impaired',
        details: [{ name: 'reachability', status: well ? 'passed' : 'failed' }],
      };
  return {
    instanceId: formatId('i', instance.id),
    availabilityZone: zoneOf(instance),
    instanceState: viewState(instance),
    systemStatus: status,
    instanceStatus: status,
  };
}

export const terminateInstances = action('TerminateInstances', {
  about: 'Ends instances, all or, when one is not there, none',
  params: { InstanceId: list(instanceId(), { min: 1 }) },
  roles: ['projectmanager', 'sysadmin'],
  async run(ctx, { InstanceId }, deps) {
    const before = await instancesById(ctx, deps, InstanceId); // all are there before the first is ended
    for (const { id, deleted } of before) if (!deleted) await deps.compute.terminate(ctx, id);
    const after = new Map((await instancesById(ctx, deps, InstanceId)).map((instance) => [instance.id, instance]));
    return {
      instancesSet: before.map((instance) => ({
        instanceId: formatId('i', instance.id),
        currentState: viewState(after.get(instance.id) ?? instance),
        previousState: viewState(instance),
      })),
      return: true, // all that Nova said
    };
  },
});

export const rebootInstances = action('RebootInstances', {
  about: 'Restarts guests; one that is stopped starts',
  params: { InstanceId: list(instanceId(), { min: 1 }) },
  roles: ['projectmanager', 'sysadmin'],
  async run(ctx, { InstanceId }, deps) {
    for (const { id } of await instancesById(ctx, deps, InstanceId)) await deps.compute.reboot(ctx, id);
    return { return: true };
  },
});

export const getConsoleOutput = action('GetConsoleOutput', {
  about: 'The end of what the guest wrote to its serial console, in base64',
  params: { InstanceId: instanceId() },
  roles: ['projectmanager', 'sysadmin'],
  async run(ctx, { InstanceId }, { compute }) {
    const output = await compute.consoleOutput(ctx, InstanceId);
    return {
      instanceId: formatId('i', InstanceId),
      timestamp: clock.now(),
      output: Buffer.from(output).toString('base64'),
    };
  },
});
