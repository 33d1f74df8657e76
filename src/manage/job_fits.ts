import type { NovaDb } from '../common/db/connect.ts';
import { ec2InstanceId, instanceById } from '../common/db/instances.ts';
import type { Job } from '../common/db/jobs.ts';
import { ec2SnapshotId, snapshotById } from '../common/db/snapshots.ts';
import { ec2VolumeId, volumeById } from '../common/db/volumes.ts';
import { TASKS } from '../common/instance_state.ts';
import { SNAPSHOT_TASKS, VOLUME_TASKS } from '../common/volume_state.ts';

interface Subject {
  name: string;
  /** What it is now. */
  state: string;
  deleted: number;
}

/** Which states are a method's to end; a method that no table has works in any. */
const statesOf = (tasks: Record<string, { job: string }>, method: string): string[] =>
  Object.entries(tasks).flatMap(([state, { job }]) => (job === method ? state : []));

/** How the same is asked for anew. */
const INSTEAD: Record<string, string> = {
  run_instance: 'terminate it and launch again',
  create_volume: 'delete it and make another',
  create_snapshot: 'delete it and take another',
};

/**
 * Why the job would do nothing if it ran again: what it is to end is over, since its failure put the resource into another
 * state. Undefined when it fits.
 */
export async function whyNoUse(db: NovaDb, job: Job): Promise<string | undefined> {
  const { method } = job;
  const args = JSON.parse(job.args) as Record<string, unknown>;
  if (args['force'] === true) return undefined; // it undoes what is left, in any state
  const of_instance = statesOf(TASKS, method);
  const of_volume = statesOf(VOLUME_TASKS, method);
  const of_snapshot = statesOf(SNAPSHOT_TASKS, method);
  if (of_instance.length > 0) return verdict(await instance(db, Number(args['instance_id'])), of_instance);
  if (of_volume.length > 0) return verdict(await volume(db, Number(args['volume_id'])), of_volume);
  if (of_snapshot.length > 0) return verdict(await snapshot(db, Number(args['snapshot_id'])), of_snapshot);
  return undefined;

  function verdict({ name, state, deleted }: Subject, fit: string[]): string | undefined {
    if (deleted === 0 && fit.includes(state)) return undefined;
    const is = deleted === 0 ? state : 'deleted';
    const instead = deleted === 0 ? `; ${INSTEAD[method] ?? 'ask for it again'}` : '';
    return `${name} is ${is}, and ${method} does something only while it is ${fit.join(' or ')}${instead}`;
  }
}

async function instance(db: NovaDb, id: number): Promise<Subject> {
  const { task_state, vm_state, deleted } = await instanceById(db, id, { deleted: true });
  return { name: ec2InstanceId(id), state: task_state ?? vm_state, deleted };
}
async function volume(db: NovaDb, id: number): Promise<Subject> {
  const { status, deleted } = await volumeById(db, id, { deleted: true });
  return { name: ec2VolumeId(id), state: status, deleted };
}
async function snapshot(db: NovaDb, id: number): Promise<Subject> {
  const { status, deleted } = await snapshotById(db, id, { deleted: true });
  return { name: ec2SnapshotId(id), state: status, deleted };
}
