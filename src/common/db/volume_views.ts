import type { RequestContext } from '../context.ts';
import type { Db } from './connect.ts';

/** Where a volume is attached, or about to be. */
export interface AttachmentView {
  id: number;
  instance_id: number;
  instance_uuid: string;
  /** `/dev/vdb` */
  device: string;
  /** attaching, attached, detaching */
  status: string;
  /** When it was asked for. */
  created_at: string;
  /** When the guest had it; null until then. */
  attached_at: string | null;
  delete_on_termination: boolean;
  /** The instance boots from it. */
  boot: boolean;
}

/** What the HTTP APIs show of a volume. */
export interface VolumeView {
  id: number;
  user_id: string;
  project_id: string;
  /** GiB. */
  size: number;
  /** common/volume_state.ts */
  status: string;
  /** Why it is in error, or why the last thing asked of it was not done. */
  fault: string | null;
  availability_zone: string;
  snapshot_id: number | null;
  /** The type's name. */
  volume_type: string | null;
  /** The storage host; for admins. */
  host: string | null;
  display_name: string;
  display_description: string;
  created_at: string;
  metadata: Record<string, string>;
  attachment: AttachmentView | null;
}

export interface VolumeFilter {
  ids?: readonly number[];
  /** Attached to this one, or about to be. */
  instance_id?: number;
  /** After this id. */
  marker?: number;
  limit?: number;
}

/** The caller's live volumes (an admin's: all) with all that belongs to them, oldest first; four queries however many. */
export async function viewVolumes(db: Db, ctx: RequestContext, filter: VolumeFilter = {}): Promise<VolumeView[]> {
  const chosen = chosenVolumes(db, ctx, filter);
  const rows = await chosen
    .select(['id', 'user_id', 'project_id', 'size', 'status', 'fault', 'availability_zone', 'snapshot_id', 'host'])
    .select(['volume_type_id', 'display_name', 'display_description', 'created_at'])
    .orderBy('id')
    .execute();
  if (rows.length === 0) return [];
  const [types, attachments, metadata] = await Promise.all([
    db.selectFrom('volume_types').select(['id', 'name']).where('deleted', '=', 0).execute(),
    db
      .selectFrom('volume_attachments as a')
      .innerJoin('instances as i', 'i.id', 'a.instance_id')
      .select(['a.id', 'a.volume_id', 'a.instance_id', 'i.uuid as instance_uuid', 'a.device', 'a.status'])
      .select(['a.created_at', 'a.attached_at', 'a.delete_on_termination', 'a.boot'])
      .where('a.volume_id', 'in', chosen.select('id'))
      .where('a.deleted', '=', 0)
      .execute(),
    db
      .selectFrom('volume_metadata')
      .select(['volume_id', 'key', 'value'])
      .where('volume_id', 'in', chosen.select('id'))
      .where('deleted', '=', 0)
      .orderBy('id')
      .execute(),
  ]);
  const type_of = new Map(types.map(({ id, name }) => [id, name]));
  const views = new Map<number, VolumeView>();
  for (const { volume_type_id, ...row } of rows)
    views.set(row.id, {
      ...row,
      volume_type: type_of.get(volume_type_id ?? 0) ?? null,
      metadata: {},
      attachment: null,
    });
  for (const { volume_id, delete_on_termination, boot, ...attachment } of attachments) {
    const view = views.get(volume_id);
    if (view) view.attachment = { ...attachment, delete_on_termination: delete_on_termination === 1, boot: boot === 1 };
  }
  for (const { volume_id, key, value } of metadata) {
    const view = views.get(volume_id);
    if (view) view.metadata[key] = value;
  }
  return [...views.values()];
}

function chosenVolumes(db: Db, ctx: RequestContext, filter: VolumeFilter) {
  let query = db.selectFrom('volumes').where('deleted', '=', 0);
  if (!ctx.is_admin) query = query.where('project_id', '=', ctx.project_id ?? '');
  if (filter.ids) query = query.where('id', 'in', filter.ids.length > 0 ? [...filter.ids] : [-1]);
  if (filter.marker !== undefined) query = query.where('id', '>', filter.marker);
  const { instance_id } = filter;
  if (instance_id !== undefined)
    query = query.where('id', 'in', (e) =>
      e
        .selectFrom('volume_attachments')
        .select('volume_id')
        .where('instance_id', '=', instance_id)
        .where('deleted', '=', 0),
    );
  return filter.limit === undefined ? query : query.orderBy('id').limit(filter.limit);
}
