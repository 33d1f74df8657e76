import type { RequestContext } from '../../common/context.ts';
import type { Snapshot } from '../../common/db/snapshots.ts';
import { SnapshotNotFound } from '../../common/errors.ts';
import { action } from './deps.ts';
import { filters, matcher } from './filters.ts';
import { formatId } from './ids.ts';
import { afterId, cutPage, pagingParams } from './paging.ts';
import { list, optional, snapshotId, str, volumeId } from './params.ts';
import { SNAPSHOT_FIELDS, viewSnapshot } from './volume_view.ts';

const roles = ['projectmanager', 'sysadmin'];

export const createSnapshot = action('CreateSnapshot', {
  about: 'Takes a snapshot of a volume, also of one that is attached: then as after a power cut at that moment',
  params: {
    VolumeId: volumeId(),
    Description: optional(str({ min: 0 })),
    DisplayName: optional(str({ min: 0 }), ''),
    DisplayDescription: optional(str({ min: 0 }), ''),
  },
  not_offered: ['TagSpecification'],
  roles,
  async run(ctx, { VolumeId, Description, DisplayName, DisplayDescription }, { volumes }) {
    const snapshot = await volumes.snapshots.create(ctx, {
      volume_id: VolumeId,
      force: true,
      display_name: DisplayName,
      display_description: Description ?? DisplayDescription,
    });
    return viewSnapshot(snapshot);
  },
});

/** Snapshots are the project's own: nobody else may restore them. */
const isOf = (ctx: RequestContext, { project_id }: Snapshot, word: string): boolean =>
  project_id === (word === 'self' ? ctx.project_id : word);

export const describeSnapshots = action('DescribeSnapshots', {
  about: "The project's snapshots (an administrator's: of all projects)",
  params: {
    SnapshotId: list(snapshotId()),
    Owner: list(str()),
    RestorableBy: list(str()),
    Filter: filters(),
    ...pagingParams,
  },
  roles: 'all',
  async run(ctx, { SnapshotId, Owner, RestorableBy, Filter, ...paging }, { volumes }) {
    const matches = matcher(Filter, SNAPSHOT_FIELDS);
    const marker = afterId(paging);
    const known = await volumes.snapshots.list(ctx, SnapshotId.length > 0 ? { ids: SnapshotId } : {});
    const missing = SnapshotId.find((id) => !known.some((snapshot) => snapshot.id === id));
    if (missing !== undefined) throw new SnapshotNotFound(`there is no snapshot ${formatId('snap', missing)}`);
    const asked = known.filter(
      (snapshot) =>
        snapshot.id > marker &&
        [Owner, RestorableBy].every((words) => words.length === 0 || words.some((word) => isOf(ctx, snapshot, word))) &&
        matches(snapshot),
    );
    const { page, nextToken } = cutPage(asked, paging);
    return { snapshotSet: page.map(viewSnapshot), nextToken };
  },
});

export const deleteSnapshot = action('DeleteSnapshot', {
  about: 'Deletes a snapshot; volumes made from it stay',
  params: { SnapshotId: snapshotId() },
  roles,
  async run(ctx, { SnapshotId }, { volumes }) {
    await volumes.snapshots.delete(ctx, SnapshotId);
    return { return: true };
  },
});
