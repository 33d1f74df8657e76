import { clock } from '../common/clock.ts';
import type { Event } from '../common/db/events.ts';
import { ec2InstanceId } from '../common/db/instances.ts';
import type { Job } from '../common/db/jobs.ts';
import { table } from './table.ts';
import { agoText, durationText } from './time_text.ts';

/** Events and jobs as lines for people: when, how long since the step before, where, what, and why. */

/** `2011-04-15 10:00:00.123`, UTC. */
export const timeText = (at: string): string => at.replace('T', ' ').replace(/Z$/, '');

/** `instance:10` as `i-0000000a`, others as they are. */
export function resourceText(resource: string): string {
  const id = /^instance:(\d+)$/.exec(resource)?.[1];
  return id === undefined ? resource : ec2InstanceId(Number(id));
}

const KINDS: Readonly<Record<string, string>> = {
  i: 'instance',
  vol: 'volume',
  snap: 'snapshot',
  ami: 'image',
  aki: 'image',
  ari: 'image',
};

/** `vol-0000000a` as `volume:10`; what is no such id as it is. */
export function resourceOf(given: string): string {
  const [, prefix = '', hex = ''] = /^([a-z]+)-([0-9a-f]{1,8})$/i.exec(given) ?? [];
  const kind = KINDS[prefix.toLowerCase()];
  return kind === undefined ? given : `${kind}:${parseInt(hex, 16)}`;
}

/** The events in order, under one line for each request that caused them. `resources`: say which one each is about. */
export function storyLines(events: readonly Event[], options: { resources?: boolean } = {}): string[] {
  const lines: string[] = [];
  const rows = rowsOf(events, options.resources ?? false);
  const text = table(rows.map((row) => row.cells));
  let request: string | undefined;
  for (const [i, row] of rows.entries()) {
    if (row.event && row.event.request_id !== request) {
      request = row.event.request_id;
      lines.push(`  ${requestText(row.event)}`);
    }
    lines.push(`    ${text[i] ?? ''}`);
  }
  return lines;
}

function requestText({ request_id, user_id, project_id, at }: Event): string {
  const who = user_id === null ? 'by the system itself' : `by ${user_id}${project_id ? ` in ${project_id}` : ''}`;
  return `${request_id} ${who}, ${agoText(at)}`;
}

interface Row {
  /** Undefined for a line that goes on with the details of the one above. */
  event?: Event;
  cells: string[];
}

function rowsOf(events: readonly Event[], resources: boolean): Row[] {
  const rows: Row[] = [];
  let before: Event | undefined;
  for (const event of events) {
    const [first = '', ...more] = detailLines(event.details);
    const step = before ? `+${durationText(Date.parse(event.at) - Date.parse(before.at))}` : '';
    const what = resources ? [resourceText(event.resource), event.event] : [event.event];
    rows.push({ event, cells: [timeText(event.at), step, event.host ?? 'api', ...what, first] });
    for (const line of more) rows.push({ cells: ['', '', '', ...what.map(() => ''), line] });
    before = event;
  }
  return rows;
}

/** The facts in words, the error on a line of its own after them, then each host with its reason. */
function detailLines(details: string): string[] {
  const { error, hosts, ...facts } = JSON.parse(details) as Record<string, unknown>;
  const words = Object.entries(facts).flatMap(([name, value]) =>
    value === null || value === undefined ? [] : [factText(name, value)],
  );
  const reasons =
    typeof hosts === 'object' && hosts !== null
      ? Object.entries(hosts).map(([host, why]) => `not ${host}: ${String(why)}`)
      : [];
  return [...(words.length > 0 ? [words.join(', ')] : []), ...(typeof error === 'string' ? [error] : []), ...reasons];
}

function factText(name: string, value: unknown): string {
  const label = name.replaceAll('_', ' ');
  if (name.endsWith('_ms') && typeof value === 'number') return `${label.slice(0, -3)} took ${durationText(value)}`;
  if (name.endsWith('_s') && typeof value === 'number') return `${label.slice(0, -2)} ${durationText(value * 1000)}`;
  if (Array.isArray(value)) return `${label} ${value.map(String).join(' ') || 'none'}`;
  return `${label} ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`;
}

/** Jobs, the oldest first, each with its state, what it took and its last error. */
export function jobLines(jobs: readonly Job[], options: { resources?: boolean } = {}): string[] {
  const rows = jobs
    .toSorted((a, b) => a.id - b.id)
    .map((job) => [
      `job ${job.id}`,
      `${job.topic}.${job.method}${job.host === null ? '' : ` on ${job.host}`}`,
      ...(options.resources ? [job.resource === null ? '-' : resourceText(job.resource)] : []),
      `${job.state}${progressText(job)}`,
      `attempt ${job.attempt} of ${job.max_attempts}`,
      job.error ?? '',
    ]);
  return table(rows).map((line) => `    ${line}`);
}

function progressText({ state, created_at, updated_at }: Job): string {
  if (state === 'queued') return ` for ${durationText(clock.now().getTime() - Date.parse(created_at))}`;
  if (updated_at === null) return '';
  if (state === 'running') return ` for ${durationText(clock.now().getTime() - Date.parse(updated_at))}`;
  return ` after ${durationText(Date.parse(updated_at) - Date.parse(created_at))}`;
}
