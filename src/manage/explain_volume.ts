import { ec2InstanceId } from '../common/db/instance_names.ts';
import type { Job } from '../common/db/jobs.ts';
import { snapshotById } from '../common/db/snapshots.ts';
import { attachmentOfVolume } from '../common/db/volume_attachments.ts';
import { volumeById } from '../common/db/volumes.ts';
import { NotFound } from '../common/errors.ts';
import { sweepLine, silence, waitingFor, type Services } from './explain_advice.ts';
import type { Manage } from './noun.ts';

/** What a volume or snapshot is, and what it waits for; nothing for other resources and for rows that are not there. */
export async function volumeNow(
  m: Manage,
  resource: string,
  jobs: readonly Job[],
  services: Services,
): Promise<string[]> {
  const [, kind, number] = /^(volume|snapshot):(\d+)$/.exec(resource) ?? [];
  if (kind === undefined) return [];
  const byId = kind === 'volume' ? volumeById : snapshotById;
  const row = await byId(m.db, Number(number), { deleted: true }).catch((err: unknown) => {
    if (err instanceof NotFound) return undefined;
    throw err;
  });
  if (row === undefined) return [];
  if (row.deleted !== 0) return ['It is deleted. Nothing to do.'];
  const { status, host, fault, task_deadline } = row;
  const lines = [`It is ${status}, ${host === null ? 'on no host yet' : `on ${host}`}.`];
  if (fault !== null) lines.push(`Its fault: ${fault}`);
  const attachment = kind === 'volume' ? await attachmentOfVolume(m.db, row.id) : undefined;
  if (attachment)
    lines.push(`It is ${attachment.status} at ${attachment.device} of ${ec2InstanceId(attachment.instance_id)}.`);
  const job = jobs.find((one) => one.state === 'running') ?? jobs.find((one) => one.state === 'queued');
  if (job) lines.push(...waitingFor(services, job));
  else {
    const silent = host === null ? undefined : silence(services, 'volume', host);
    if (silent !== undefined) lines.push(`${silent}; what is asked of it waits until that is back.`);
  }
  const what = job ? 'looks into it' : 'casts the job again';
  return [...lines, ...sweepLine({ ...services, task_deadline }, what)];
}
