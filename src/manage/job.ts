import { JOB_STATES, jobById, listJobs, retryJob, type Job, type JobState } from '../common/db/jobs.ts';
import { Conflict, NotFound } from '../common/errors.ts';
import { resourceOf } from './explain_story.ts';
import { integer, named, optional, text, verb, word, type Manage, type Noun } from './noun.ts';
import { whyNoUse } from './job_fits.ts';
import { table } from './table.ts';
import { agoText } from './time_text.ts';

export const jobCommands: Noun = {
  name: 'job',
  summary: 'Work that daemons were asked for',
  verbs: {
    list: verb({
      summary: 'Print jobs, the newest first',
      args: {
        state: named(optional(word(`${JOB_STATES.join(', ')}`, JOB_STATES))),
        resource: named(optional(text('What it works on: i-0000000a, vol-, snap-, ami-0000000a, or as printed'))),
        limit: named(optional(integer('Most lines', { min: 1 }), 50)),
      },
      run: list,
    }),
    retry: verb({
      summary: 'Let a failed job run again, where what it works on still waits for it',
      args: { id: integer('Number of the job', { min: 1 }) },
      run: retry,
    }),
  },
};

async function list(
  m: Manage,
  { state, resource, limit }: { state: JobState | undefined; resource: string | undefined; limit: number },
): Promise<void> {
  const jobs = await listJobs(m.db, { state, limit, resource: resource && resourceOf(resource) });
  const heading = ['id', 'state', 'method', 'resource', 'where', 'attempt', 'asked', 'request', 'error'];
  for (const line of table([heading, ...jobs.map(listed)], [0])) m.out(line);
}

const listed = (job: Job): string[] => [
  String(job.id),
  job.state,
  `${job.topic}.${job.method}`,
  job.resource ?? '-',
  job.host ?? 'any',
  `${job.attempt} of ${job.max_attempts}`,
  agoText(job.created_at),
  job.request_id,
  job.error ?? '',
];

async function retry(m: Manage, { id }: { id: number }): Promise<void> {
  const job = await jobById(m.db, id);
  if (!job) throw new NotFound(`there is no job ${id}; what was done is forgotten after a while`);
  const no_use = job.state === 'failed' ? await whyNoUse(m.db, job) : undefined;
  if (no_use !== undefined) throw new Conflict(`job ${id} would do nothing: ${no_use}. It failed: ${job.error ?? '-'}`);
  if (await retryJob(m.db, id)) return m.out(`job ${id} is queued again`);
  throw new Conflict(`job ${id} is ${job.state}; only a failed job can be retried`);
}
