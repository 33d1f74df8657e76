import type { Selectable } from 'kysely';
import { nowText, textIn } from '../clock.ts';
import type { RequestContext } from '../context.ts';
import { Conflict, errorText, ImageNotFound } from '../errors.ts';
import { changed, type Db } from './connect.ts';
import type { ImagesTable } from './schema.ts';

export type Image = Selectable<ImagesTable>;

/** `location` of an image whose bytes nova-manage stores. */
export const LOCAL = 'local';
/**
 * Seconds until the sweep looks into an image whose bytes do not come; who stores them sets it anew as they come.
 *
 *   queued ──all bytes are stored──> active
 *      └──> error, which a new job makes queued again
 */
const QUEUED_S = 600;

/** What the caller may see: public images, its project's own, everything for an admin. */
export function visibleImages(db: Db, ctx: RequestContext) {
  const query = db.selectFrom('images').selectAll().where('deleted', '=', 0);
  if (ctx.is_admin) return query;
  return query.where((e) => e.or([e('is_public', '=', 1), e('project_id', '=', ctx.project_id ?? '')]));
}

const PREFIX: Record<string, string> = { aki: 'aki', ari: 'ari', kernel: 'aki', ramdisk: 'ari' };
/** For people: `ami-0000000a`, `aki-`, `ari-` by the container format. */
export const ec2ImageId = (id: number, container_format = 'ami'): string =>
  `${PREFIX[container_format] ?? 'ami'}-${id.toString(16).padStart(8, '0')}`;

/** @throws ImageNotFound */
export async function visibleImage(db: Db, ctx: RequestContext, id: number): Promise<Image> {
  const image = await visibleImages(db, ctx).where('id', '=', id).executeTakeFirst();
  if (!image) throw new ImageNotFound(`there is no image ${ec2ImageId(id)} (${id})`);
  return image;
}

/** Deleted ones too. */
export const imageById = (db: Db, id: number): Promise<Image | undefined> =>
  db.selectFrom('images').selectAll().where('id', '=', id).executeTakeFirst();

export interface NewImage {
  name: string;
  project_id: string;
  user_id: string | null;
  is_public: boolean;
  /** ami, aki, ari, bare */
  container_format: string;
  /** raw, qcow2, ami, aki, ari */
  disk_format: string;
  architecture: string;
  kernel_id: number | null;
  ramdisk_id: number | null;
  /** `bucket/key`, or `local`. */
  location: string;
  properties: Record<string, string>;
}

/** A record without bytes, `queued`. @returns its id */
export async function createImage(db: Db, image: NewImage): Promise<number> {
  const { id } = await db
    .insertInto('images')
    .values({
      ...image,
      is_public: image.is_public ? 1 : 0,
      properties: JSON.stringify(image.properties),
      status: 'queued',
      task_deadline: textIn(QUEUED_S),
      fault: null,
      size_bytes: null,
      checksum: null,
      created_at: nowText(),
    })
    .returning('id')
    .executeTakeFirstOrThrow();
  return id;
}

/** Sets some of an image's properties, and leaves the others; null takes one away. Of a deleted image, nothing. */
export async function mergeImageProperties(db: Db, id: number, changes: Record<string, string | null>): Promise<void> {
  for (;;) {
    const row = await db
      .selectFrom('images')
      .select('properties')
      .where('id', '=', id)
      .where('deleted', '=', 0)
      .executeTakeFirst();
    if (!row) return;
    const merged = Object.entries({ ...(JSON.parse(row.properties) as Record<string, string>), ...changes });
    const properties = JSON.stringify(Object.fromEntries(merged.filter(([, value]) => value !== null)));
    const result = await db
      .updateTable('images')
      .set({ properties, updated_at: nowText() })
      .where('id', '=', id)
      .where('properties', '=', row.properties) // else another changed them meanwhile
      .executeTakeFirst();
    if (changed(result) === 1) return;
  }
}

/** @returns false when it is not there, or deleted already */
export async function updateImage(
  db: Db,
  id: number,
  changes: Partial<Pick<Image, 'name' | 'is_public'>>,
): Promise<boolean> {
  const result = await db
    .updateTable('images')
    .set({ ...changes, updated_at: nowText() })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  return changed(result) === 1;
}

/** Out of every list; its bytes are another's business. @returns false when it was deleted already */
export async function deleteImageRow(db: Db, id: number): Promise<boolean> {
  const now = nowText();
  const result = await db
    .updateTable('images')
    .set({ deleted: 1, deleted_at: now, updated_at: now, task_deadline: null })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  return changed(result) === 1;
}

/** Its bytes are stored. @throws Conflict when it was deleted or given up meanwhile */
export async function activateImage(
  db: Db,
  id: number,
  bytes: { checksum: string; size_bytes: number; disk_format?: string },
): Promise<void> {
  const result = await db
    .updateTable('images')
    .set({ status: 'active', fault: null, task_deadline: null, updated_at: nowText(), ...bytes })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .where('status', '!=', 'error')
    .executeTakeFirst();
  if (changed(result) === 0) throw gone(id);
}

const gone = (id: number): Conflict =>
  new Conflict(`image ${ec2ImageId(id)} was deleted, or given up as too slow, while its bytes came`);

/** A job begins to store its bytes, also after a failure. @returns false when it is active or deleted */
export async function queueImage(db: Db, id: number): Promise<boolean> {
  const result = await db
    .updateTable('images')
    .set({ status: 'queued', fault: null, task_deadline: textIn(QUEUED_S), updated_at: nowText() })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .where('status', '!=', 'active')
    .executeTakeFirst();
  return changed(result) === 1;
}

/** Its bytes are coming. @param seen the deadline it must still have. @returns false when it is not queued with that */
export async function renewImage(db: Db, id: number, seen?: string | null): Promise<boolean> {
  let query = db
    .updateTable('images')
    .set({ task_deadline: textIn(QUEUED_S) })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .where('status', '=', 'queued');
  if (seen !== undefined) query = query.where('task_deadline', '=', seen);
  return changed(await query.executeTakeFirst()) === 1;
}

/** Images whose bytes stopped coming. */
export const overdueImages = (db: Db, limit: number): Promise<Image[]> =>
  db
    .selectFrom('images')
    .selectAll()
    .where('deleted', '=', 0)
    .where('task_deadline', 'is not', null)
    .where('task_deadline', '<', nowText())
    .orderBy('task_deadline')
    .limit(limit)
    .execute();

/**
 * It will not become active: says why, to those who look at it.
 * @param seen the deadline it must still have. @returns false when it is active or deleted, or has another deadline
 */
export async function failImage(db: Db, id: number, err: unknown, seen?: string | null): Promise<boolean> {
  let query = db
    .updateTable('images')
    .set({ status: 'error', fault: errorText(err), task_deadline: null, updated_at: nowText() })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .where('status', '!=', 'active');
  if (seen !== undefined) query = query.where('task_deadline', '=', seen);
  return changed(await query.executeTakeFirst()) === 1;
}

/** Those whose bytes have this sha256, deleted ones too, oldest first. */
export const imagesOfChecksum = async (db: Db, checksum: string): Promise<number[]> =>
  (await db.selectFrom('images').select('id').where('checksum', '=', checksum).orderBy('id').execute()).map(
    ({ id }) => id,
  );

/** `image_id` of an instance that boots from a volume and named no image. */
export const NO_IMAGE = 0;
