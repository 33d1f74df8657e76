import type { RequestContext } from '../../common/context.ts';
import { writing, type NovaDb, type Tx } from '../../common/db/connect.ts';
import { recordEvent } from '../../common/db/events.ts';
import { failImage, LOCAL, overdueImages, renewImage, type Image } from '../../common/db/images.ts';
import { castJob, jobUnderWay } from '../../common/db/jobs.ts';
import { NovaError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { RpcBus } from '../../common/rpc/bus.ts';
import { imageResource, objectstoreClient } from '../../objectstore/rpc.ts';

interface Deps {
  db: NovaDb;
  log: Log;
  bus: RpcBus;
}
const BATCH = 200;

/**
 * The sweep of images whose bytes stopped coming:
 *
 *   nova-manage stored them   ──> error, since nobody else has them; nova-objectstore takes away what came
 *   its job waits or runs     ──> a new deadline, and an event that says what it waits for
 *   it has no job any more    ──> the job is cast again
 */
export async function sweepImages(deps: Deps, ctx: RequestContext): Promise<void> {
  const { db, log } = deps;
  for (const image of await overdueImages(db, BATCH)) {
    ctx.signal.throwIfAborted();
    try {
      await writing(db, (tx) => sweepImage(tx, deps, { ...ctx, project_id: image.project_id }, image));
    } catch (err) {
      log.error({ err, image_id: image.id }, 'not swept');
    }
  }
}

async function sweepImage(tx: Tx, { bus, log }: Deps, ctx: RequestContext, image: Image): Promise<void> {
  const { id, task_deadline } = image;
  const resource = imageResource(id);
  const objectstore = objectstoreClient(bus);
  if (image.location === LOCAL) {
    const gone = new NovaError('nova-manage was ended before all bytes were stored: register the image again');
    if (!(await failImage(tx, id, gone, task_deadline))) return; // they come again, or another sweeps
    await castJob(tx, ctx, objectstore.deleteImage, { image_id: id });
    await recordEvent(tx, ctx, resource, 'given up: its bytes stopped coming', null, { error: gone.message });
    log.warn({ image_id: id }, 'the bytes of an image stopped coming, given up');
    return;
  }
  if (!(await renewImage(tx, id, task_deadline))) return;
  const job = await jobUnderWay(tx, resource, 'register_image');
  if (job) {
    const { id: number, state: job_state, attempt, error } = job;
    await recordEvent(tx, ctx, resource, 'still queued', null, { job: number, job_state, attempt, error });
    return;
  }
  await recordEvent(tx, ctx, resource, 'queued had no job, cast again', null);
  await castJob(tx, ctx, objectstore.registerImage, { image_id: id });
}
