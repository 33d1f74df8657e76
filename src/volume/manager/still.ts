import { adminContext, type RequestContext } from '../../common/context.ts';
import type { NovaDb } from '../../common/db/connect.ts';
import { ec2InstanceId, instanceById } from '../../common/db/instances.ts';
import { attachmentOfVolume } from '../../common/db/volume_attachments.ts';
import { ec2VolumeId } from '../../common/db/volumes.ts';
import { BackendUnavailable, Conflict, NotYet, UnsupportedOperation } from '../../common/errors.ts';
import type { computeClient } from '../../compute/rpc.ts';

interface Deps {
  db: NovaDb;
  compute: ReturnType<typeof computeClient>;
  /** Seconds after which the guest goes on by itself. */
  limit_s: number;
  /** Ended when the limit is over while it stands still: the copy is then worth nothing. */
  over: AbortController;
}

/**
 * How whoever writes to a volume is made to stand still while it is copied; null when nobody has it. The guest goes on
 * by itself when the limit is over, also when this process ends meanwhile; then the copy is worth nothing and says so.
 */
export async function howToStandStill(
  { db, compute, limit_s, over }: Deps,
  ctx: RequestContext,
  volume_id: number,
  key: string,
): Promise<(() => Promise<() => Promise<void>>) | null> {
  const attachment = await attachmentOfVolume(db, volume_id);
  if (!attachment) return null;
  const { instance_id } = attachment;
  const isOff = async (): Promise<boolean> => {
    const { vm_state, task_state } = await instanceById(db, instance_id);
    return vm_state === 'stopped' && task_state === null;
  };
  return async () => {
    const { host } = await instanceById(db, instance_id);
    if (host === null) return async () => undefined; // it has no guest that could write
    try {
      await compute.at(host).freezeInstance(ctx, { instance_id, key, seconds: limit_s });
    } catch (err) {
      if (!(err instanceof Conflict)) throw err;
      const { vm_state, task_state } = await instanceById(db, instance_id);
      if (task_state !== null) throw new NotYet(`${ec2InstanceId(instance_id)} is ${task_state}`); // that ends by itself
      if (vm_state !== 'stopped') throw new BackendUnavailable(err.message, { cause: err }); // it may run by now
      return async () => {
        if (!(await isOff()))
          throw new BackendUnavailable(
            `${ec2InstanceId(instance_id)} was started while ${ec2VolumeId(volume_id)} was copied`,
          );
      };
    }
    const limit = setTimeout(() => over.abort(), limit_s * 1000);
    return async () => {
      clearTimeout(limit);
      // Not the job's signal: who gives up lets the guest go on, too.
      const held = await compute
        .at(host)
        .thawInstance(adminContext({ request_id: ctx.request_id }), { instance_id, key });
      if (!held || over.signal.aborted)
        throw new UnsupportedOperation(
          `${ec2InstanceId(instance_id)} did not stand still for as long as ${ec2VolumeId(volume_id)} was copied: ` +
            `--snapshot_freeze_limit=${limit_s} seconds were over. Detach it first, or have the limit raised`,
        );
    };
  };
}
