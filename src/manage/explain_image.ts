import { imageById, LOCAL } from '../common/db/images.ts';
import type { Job } from '../common/db/jobs.ts';
import { sweepLine, waitingFor, type Services } from './explain_advice.ts';
import type { Manage } from './noun.ts';

/** What an image is, and what it waits for; nothing for other resources and for rows that are not there. */
export async function imageNow(
  m: Manage,
  resource: string,
  jobs: readonly Job[],
  services: Services,
): Promise<string[]> {
  const number = /^image:(\d+)$/.exec(resource)?.[1];
  const image = number === undefined ? undefined : await imageById(m.db, Number(number));
  if (image === undefined) return [];
  if (image.deleted !== 0) return ['It is deleted. Nothing to do.'];
  const { status, fault, location, task_deadline } = image;
  const lines = [`It is ${status}.`];
  if (fault !== null) lines.push(`Its fault: ${fault}`);
  const by_hand = location === LOCAL;
  if (by_hand && task_deadline !== null) lines.push('nova-manage stores its bytes, where it still runs.');
  const job = jobs.find((one) => one.state === 'running') ?? jobs.find((one) => one.state === 'queued');
  if (job) lines.push(...waitingFor(services, job));
  const what = by_hand ? 'gives it up when no bytes come,' : job ? 'looks into it' : 'casts the job again';
  return [...lines, ...sweepLine({ ...services, task_deadline }, what)];
}
