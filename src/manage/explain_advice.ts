import { clock } from '../common/clock.ts';
import type { InstanceView } from '../common/db/instance_views.ts';
import type { Job } from '../common/db/jobs.ts';
import type { ServiceRow } from '../common/db/services.ts';
import { agoText, durationText } from './time_text.ts';

/** Who is at work in the cloud. */
export interface Services {
  services: readonly ServiceRow[];
  service_down_time_s: number;
}
export interface Situation extends Services {
  instance: InstanceView;
  /** When the sweep looks into the task under way. */
  task_deadline: string | null;
  jobs: readonly Job[];
}

/** What the instance waits for, and what an operator can do about it. */
export function advice(now: Situation): string[] {
  const { instance } = now;
  if (instance.deleted)
    return [`It was deleted ${instance.terminated_at ? agoText(instance.terminated_at) : ''}. Nothing to do.`];
  if (instance.task_state !== null) return underWay(now, instance.task_state);
  if (instance.vm_state === 'error') return failed(now);
  if (instance.vm_state === 'stopped')
    return ["Its guest is off, by its own doing or the hypervisor's. A reboot starts it."];
  const silent = instance.host === null ? undefined : silence(now, 'compute', instance.host);
  if (silent !== undefined)
    return [`${silent}. The guest may well run; what is asked of it waits until the service is back.`];
  return ['Nothing to do.'];
}

function failed(now: Situation): string[] {
  const { instance, jobs } = now;
  const place = instance.host === null ? 'It has no host and takes no capacity.' : givenBack(now, instance.host);
  const job = jobs.find((one) => one.state === 'failed');
  const logs =
    instance.host === null || !job
      ? []
      : [`The log of nova-compute on ${instance.host} has more: look for ${job.request_id}.`];
  return [
    `It failed: ${instance.fault ?? 'no reason is recorded'}`,
    `${place} Once the cause is mended, terminate it and launch again.`,
    ...logs,
  ];
}

function givenBack(now: Situation, host: string): string {
  const silent = silence(now, 'compute', host);
  if (silent !== undefined) return `${silent}: what the instance took there is given back when it is up again.`;
  return `What it took on ${host} is given back by nova-compute there within --periodic_interval.`;
}

function underWay(now: Situation, task: string): string[] {
  const job = now.jobs.find((one) => one.state === 'running') ?? now.jobs.find((one) => one.state === 'queued');
  const lines = job ? waitingFor(now, job) : ['No job is there for it.'];
  return [`It is ${task}.`, ...lines, ...sweepLine(now, job ? 'looks into it' : 'casts the job again')];
}

export function waitingFor(now: Services, job: Job): string[] {
  const name = `Job ${job.id} (${job.topic}.${job.method}, attempt ${job.attempt} of ${job.max_attempts})`;
  const before = job.attempt === 0 ? 'Last time' : 'The attempt before failed'; // to wait is no attempt
  const last = job.error === null ? [] : [`${before}: ${job.error}`];
  const silent = silence(now, job.topic, job.host);
  if (silent !== undefined)
    return [`${name} is ${job.state}. ${silent}: start it, and the job goes on by itself.`, ...last];
  if (job.state === 'running') return [`${name} runs on ${workerOf(job)}.`, ...last];
  const wait_ms = Date.parse(job.run_after) - clock.now().getTime();
  if (wait_ms > 0) return [`${name} runs again in ${durationText(wait_ms)}.`, ...last];
  return [
    `${name} waits for a free worker for ${durationText(-wait_ms)}; --max_concurrent_jobs of a daemon run at once.`,
  ];
}

/** `compute.node1:incarnation` is nova-compute on node1. */
const workerOf = ({ lease_owner }: Job): string =>
  (lease_owner ?? 'a worker').replace(/^([a-z]+)\.(.*):[^:]*$/, 'nova-$1 on $2');

/** What is wrong with the workers of a topic (on a host); undefined when one of them reports. */
export function silence(now: Services, topic: string, host: string | null): string | undefined {
  const since = new Date(clock.now().getTime() - now.service_down_time_s * 1000).toISOString();
  const all = now.services.filter((row) => row.topic === topic && (host === null || row.host === host));
  if (all.some((row) => row.incarnation !== '' && (row.updated_at ?? row.created_at) >= since)) return undefined;
  const [latest] = all.toSorted((a, b) => ((a.updated_at ?? '') < (b.updated_at ?? '') ? 1 : -1));
  const where = host === null ? '' : ` on ${host}`;
  if (!latest) return `There never was a nova-${topic}${where}`;
  const how = latest.incarnation === '' ? 'was stopped' : 'is down';
  return `nova-${topic} on ${latest.host} ${how} (last report ${agoText(latest.updated_at ?? latest.created_at)})`;
}

/** @param what the sweep does */
export function sweepLine(now: Services & { task_deadline: string | null }, what: string): string[] {
  if (now.task_deadline === null) return [];
  const silent = silence(now, 'scheduler', null);
  const left_ms = Date.parse(now.task_deadline) - clock.now().getTime();
  const when = left_ms > 0 ? `in ${durationText(left_ms)}` : `at its next round, being ${durationText(-left_ms)} late`;
  if (silent !== undefined) return [`${silent}: start it, since its sweep ${what} when a task takes too long.`];
  return [`The sweep in nova-scheduler ${what} ${when}.`];
}
