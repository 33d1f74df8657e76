import assert from 'node:assert/strict';
import { type TestContext } from 'node:test';
import type { RequestContext } from '../../../src/common/context.ts';
import { writing, type NovaDb } from '../../../src/common/db/connect.ts';
import { setQuota, type QuotaResource } from '../../../src/common/db/quotas.ts';
import { Flags } from '../../../src/common/flags.ts';
import { MemoryBus } from '../../../src/common/rpc/memory_bus.ts';
import { ComputeApi, type LaunchSpec } from '../../../src/compute/api.ts';
import { aContext, aDatabase, anImage, aProject } from '../../builders.ts';

/** A project with an image of number 1, and the API over it. */
export async function anApi(t: TestContext, flags: Record<string, unknown> = {}) {
  const db = await aDatabase(t);
  await aProject(db);
  await anImage(db);
  const bus = new MemoryBus();
  const api = new ComputeApi({ db, flags: Flags.of(flags), bus });
  const launch = (over: Partial<LaunchSpec> = {}, ctx: RequestContext = aContext()) =>
    api.create(ctx, { image_id: 1, instance_type: 'm1.tiny', min_count: 1, max_count: 1, ...over });
  const quota = (resource: QuotaResource, limit: number | null) =>
    writing(db, (tx) => setQuota(tx, 'apollo', resource, limit));
  return { db, bus, api, launch, quota };
}
/** Nothing of a refused launch is left. */
export async function assertNothing(db: NovaDb): Promise<void> {
  for (const table of ['instances', 'reservations', 'jobs', 'events', 'instance_metadata', 'security_groups'] as const)
    assert.deepEqual(await db.selectFrom(table).selectAll().execute(), [], table);
}
