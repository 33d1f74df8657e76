import { serviceFlags } from '../common/core_flags.ts';
import { eventsOf, eventsOfRequest } from '../common/db/events.ts';
import { ec2ImageId } from '../common/db/images.ts';
import { viewInstances, type InstanceView } from '../common/db/instance_views.ts';
import { ec2InstanceId, instanceById, instanceIdOf } from '../common/db/instances.ts';
import { listJobs } from '../common/db/jobs.ts';
import { allServices } from '../common/db/services.ts';
import { InstanceNotFound, NotFound } from '../common/errors.ts';
import { instanceResource } from '../common/rpc/contract.ts';
import { advice } from './explain_advice.ts';
import { imageNow } from './explain_image.ts';
import { volumeNow } from './explain_volume.ts';
import { jobLines, resourceOf, storyLines, timeText } from './explain_story.ts';
import { text, verb, type Manage, type Noun } from './noun.ts';
import { table } from './table.ts';
import { agoText } from './time_text.ts';

export const explainCommands: Noun = {
  name: 'explain',
  summary: 'The story of an instance, volume, snapshot, image or request: who, what, where, why, how long',
  verbs: {},
  itself: verb({
    summary: 'Print what happened, and what to do now',
    details:
      'Every step with its time (UTC), the time since the step before, the host it happened on, and why it went so.\n' +
      'Then the jobs of daemons, and what the instance waits for.',
    args: {
      what: text(
        'An instance (i-0000000a, its number or uuid), a volume (vol-), snapshot (snap-) or image (ami-, aki-, ari-), or a request (req-...)',
      ),
    },
    run: explain,
  }),
};

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

async function explain(m: Manage, { what }: { what: string }): Promise<void> {
  const resource = resourceOf(what);
  if (/^[a-z_]+:\S+$/.test(resource)) return explainResource(m, resource, what);
  if (UUID.test(what)) {
    const id = await instanceIdOf(m.db, what.toLowerCase());
    if (id !== undefined) return explainInstance(m, id);
    return explainRequest(m, what); // a request's id may be a bare uuid
  }
  if (/^\d{1,10}$/.test(what)) return explainInstance(m, Number(what));
  return explainRequest(m, what);
}

async function explainInstance(m: Manage, id: number): Promise<void> {
  const [instance] = await viewInstances(m.db, m.ctx, { ids: [id], deleted: true });
  if (!instance) throw new InstanceNotFound(`there is no instance ${ec2InstanceId(id)}, and never was`);
  const resource = instanceResource(id);
  const [events, jobs, services, { task_deadline }] = [
    await eventsOf(m.db, resource),
    await listJobs(m.db, { resource }),
    await allServices(m.db),
    await instanceById(m.db, id, { deleted: true }),
  ];
  const { service_down_time } = m.flags.read(serviceFlags);
  m.out(instanceLines(instance).join('\n'));
  section(m, 'What happened', storyLines(events));
  section(m, 'Jobs', jobLines(jobs));
  const now = advice({
    instance,
    jobs,
    services,
    task_deadline,
    service_down_time_s: service_down_time,
  });
  section(
    m,
    'Now',
    now.map((line) => `    ${line}`),
  );
}

function instanceLines(instance: InstanceView): string[] {
  const state = [instance.deleted ? 'deleted' : instance.vm_state, instance.task_state].filter(Boolean).join(', ');
  const since = instance.terminated_at ?? instance.launched_at;
  const rows = [
    ['state', state + (since === null ? '' : `, ${instance.deleted ? '' : 'launched '}${agoText(since)}`)],
    ['owner', `${instance.user_id} in project ${instance.project_id}, reservation ${instance.reservation_id}`],
    ['asked', `${timeText(instance.created_at)} UTC, ${agoText(instance.created_at)}`],
    [
      'type',
      `${instance.instance_type}: ${instance.vcpus} vcpus, ${instance.memory_mb} MB, ${instance.local_gb} GB disk`,
    ],
    ['image', ec2ImageId(instance.image_id)],
    ['host', instance.host ?? 'none'],
    ['addresses', instance.addresses.map((card) => card.address).join(' ') || 'none'],
  ];
  return [
    `${ec2InstanceId(instance.id)} ${instance.display_name} (${instance.uuid})`,
    ...table(rows).map((line) => `    ${line}`),
  ];
}

async function explainResource(m: Manage, resource: string, called: string): Promise<void> {
  const instance = /^instance:(\d+)$/.exec(resource)?.[1];
  if (instance !== undefined) return explainInstance(m, Number(instance));
  const [events, jobs] = [await eventsOf(m.db, resource), await listJobs(m.db, { resource })];
  const { service_down_time: service_down_time_s } = m.flags.read(serviceFlags);
  const services = { services: await allServices(m.db), service_down_time_s };
  const nowOf = resource.startsWith('image:') ? imageNow : volumeNow;
  const now = await nowOf(m, resource, jobs, services);
  if (events.length + jobs.length + now.length === 0) throw new NotFound(`nothing is recorded of ${called}`);
  m.out(called);
  section(m, 'What happened', storyLines(events));
  section(m, 'Jobs', jobLines(jobs));
  section(
    m,
    'Now',
    now.map((line) => `    ${line}`),
  );
}

async function explainRequest(m: Manage, request_id: string): Promise<void> {
  const [events, jobs] = [await eventsOfRequest(m.db, request_id), await listJobs(m.db, { request_id })];
  if (events.length === 0 && jobs.length === 0)
    throw new NotFound(
      `nothing is recorded of ${request_id}; give an instance (i-0000000a), a volume (vol-), snapshot (snap-), image (ami-, aki-, ari-) or a request (req-...)`,
    );
  m.out(`request ${request_id}`);
  section(m, 'What happened', storyLines(events, { resources: true }));
  section(m, 'Jobs', jobLines(jobs, { resources: true }));
}

function section(m: Manage, title: string, lines: readonly string[]): void {
  if (lines.length > 0) m.out(`\n${title}\n${lines.join('\n')}`);
}
