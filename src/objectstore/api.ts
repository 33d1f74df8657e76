import type { RequestContext } from '../common/context.ts';
import { lockProject, writing, type Db, type NovaDb } from '../common/db/connect.ts';
import { recordEvent } from '../common/db/events.ts';
import {
  createImage,
  deleteImageRow,
  ec2ImageId,
  mergeImageProperties,
  updateImage,
  visibleImage,
  visibleImages,
  type Image,
} from '../common/db/images.ts';
import { castJob } from '../common/db/jobs.ts';
import { ImageNotFound, InvalidInput, NotAuthorized } from '../common/errors.ts';
import type { RpcBus } from '../common/rpc/bus.ts';
import { castClient } from '../common/rpc/contract.ts';
import { nameOfLocation, parseLocation } from './logic/location.ts';
import { imageResource, objectstoreClient, objectstoreContract } from './rpc.ts';

export interface RegisterImage {
  /** `bucket/key` of a raw or qcow2 disk, a kernel, a ramdisk, or an EC2 bundle's manifest. */
  location: string;
  name?: string | undefined;
  description?: string | undefined;
  /** `x86_64` or `i386`; a bundle's own by default. */
  architecture?: string | undefined;
  /** Overrules what a bundle says; a plain object is `ami` with a kernel and `bare` without. */
  container_format?: 'ami' | 'aki' | 'ari' | 'bare' | undefined;
  /** Null: boot the disk itself, whatever a bundle says. */
  kernel_id?: number | null | undefined;
  ramdisk_id?: number | undefined;
  is_public?: boolean | undefined;
}

const ARCHITECTURES = ['x86_64', 'i386', 'i686', 'aarch64'];
const NAME_LENGTH = 255;
const PROPERTIES = 128;

/** Images as nova-api's APIs use them. Runs inside nova-api; the bytes are moved by nova-objectstore. */
export class ImageApi {
  readonly #db: NovaDb;
  readonly #objectstore: ReturnType<typeof objectstoreClient>;

  /** @param deps.bus null for who does not register */
  constructor({ db, bus }: { db: NovaDb; bus: RpcBus | null }) {
    this.#db = db;
    this.#objectstore = bus === null ? castClient(objectstoreContract) : objectstoreClient(bus);
  }

  /** By id. @param ids only these; each must be there. @throws ImageNotFound */
  async list(ctx: RequestContext, ids: readonly number[] = []): Promise<Image[]> {
    let query = visibleImages(this.#db, ctx).orderBy('id');
    if (ids.length > 0) query = query.where('id', 'in', [...ids]);
    const images = await query.execute();
    const missing = ids.find((id) => !images.some((image) => image.id === id));
    if (missing !== undefined) throw new ImageNotFound(`there is no image ${ec2ImageId(missing)} (${missing})`);
    return images;
  }

  /** @throws ImageNotFound */
  show(ctx: RequestContext, id: number): Promise<Image> {
    return visibleImage(this.#db, ctx, id);
  }

  /**
   * Answers before the bytes are read: the image is `queued`, then `active`, or `error` with the reason.
   * @throws InvalidInput, BucketNotFound, KeyNotFound, NotAuthorized, ImageNotFound for kernel or ramdisk, RpcTimeout
   */
  async register(ctx: RequestContext, spec: RegisterImage): Promise<Image> {
    const project_id = ctx.project_id;
    if (project_id === null) throw new InvalidInput('an image belongs to a project: ask as a user of one');
    const { bucket, key } = parseLocation(spec.location);
    const found = await this.#objectstore.inspectLocation(ctx, { bucket, key });
    const kernel_id = spec.kernel_id === undefined ? imageNumber('aki', found.kernel) : spec.kernel_id;
    const ramdisk_id = spec.ramdisk_id ?? imageNumber('ari', found.ramdisk);
    await checkParts(this.#db, ctx, { kernel_id, ramdisk_id });
    const container_format = spec.container_format ?? found.container_format ?? (kernel_id === null ? 'bare' : 'ami');
    const name = spec.name ?? nameOfLocation(key);
    checkName(name);
    const architecture = spec.architecture ?? found.architecture ?? 'x86_64';
    if (!ARCHITECTURES.includes(architecture))
      throw new InvalidInput(`the architecture ${architecture.slice(0, 40)} is not one of ${ARCHITECTURES.join(', ')}`);
    const id = await writing(this.#db, async (tx) => {
      await lockProject(tx, this.#db.dialect, project_id); // deleted just now: the next one of that name would have it
      const image_id = await createImage(tx, {
        name,
        project_id,
        user_id: ctx.user_id,
        is_public: spec.is_public ?? false,
        container_format,
        disk_format: container_format === 'bare' ? 'raw' : container_format,
        architecture,
        kernel_id,
        ramdisk_id,
        location: `${bucket}/${key}`,
        properties: {
          image_state: 'pending',
          ...(found.mappings === null ? {} : { mappings: found.mappings }),
          ...(spec.description === undefined ? {} : { description: spec.description }),
        },
      });
      await castJob(tx, ctx, this.#objectstore.registerImage, { image_id });
      await recordEvent(tx, ctx, imageResource(image_id), 'image registered', null, { location: spec.location });
      return image_id;
    });
    return visibleImage(this.#db, ctx, id);
  }

  /** Record and bytes; instances that run go on. @throws ImageNotFound, NotAuthorized for another project's public image */
  async deregister(ctx: RequestContext, id: number): Promise<void> {
    const image = await this.#own(ctx, id);
    await writing(this.#db, async (tx) => {
      if (!(await deleteImageRow(tx, id))) throw new ImageNotFound(`image ${ec2ImageId(id)} was deleted meanwhile`);
      await castJob(tx, ctx, this.#objectstore.deleteImage, { image_id: id });
      await recordEvent(tx, ctx, imageResource(id), 'image deregistered', null, { name: image.name });
    });
  }

  /** Lets every project use the image, or only its own. @throws ImageNotFound, NotAuthorized */
  async setPublic(ctx: RequestContext, id: number, is_public: boolean): Promise<Image> {
    await this.#own(ctx, id);
    await updateImage(this.#db, id, { is_public: is_public ? 1 : 0 });
    return visibleImage(this.#db, ctx, id);
  }

  /** Changes the name, and sets properties; null takes one away. @throws ImageNotFound, NotAuthorized, InvalidInput */
  async update(
    ctx: RequestContext,
    id: number,
    changes: { name?: string | undefined; properties?: Record<string, string | null> },
  ): Promise<Image> {
    const image = await this.#own(ctx, id);
    const { name, properties = {} } = changes;
    if (name !== undefined) checkName(name);
    const all = { ...(JSON.parse(image.properties) as Record<string, string>), ...properties };
    if (Object.keys(all).length > PROPERTIES)
      throw new InvalidInput(`an image has at most ${PROPERTIES} properties; this would be ${Object.keys(all).length}`);
    if (name !== undefined) await updateImage(this.#db, id, { name });
    await mergeImageProperties(this.#db, id, properties);
    return visibleImage(this.#db, ctx, id);
  }

  /** Nova let everyone change what he sees, public images of others too. */
  async #own(ctx: RequestContext, id: number): Promise<Image> {
    const image = await visibleImage(this.#db, ctx, id);
    if (ctx.is_admin || image.project_id === ctx.project_id) return image;
    throw new NotAuthorized(
      `image ${ec2ImageId(id)} belongs to project ${image.project_id}; only that project may change it`,
    );
  }
}

/** What an image boots with must be there, and be what it is called. @throws ImageNotFound, InvalidInput */
export async function checkParts(
  db: Db,
  ctx: RequestContext,
  { kernel_id, ramdisk_id }: Pick<Image, 'kernel_id' | 'ramdisk_id'>,
): Promise<void> {
  const check = async (id: number | null, format: string, what: string): Promise<void> => {
    if (id === null) return;
    const image = await visibleImage(db, ctx, id);
    if (image.container_format === format) return;
    throw new InvalidInput(
      `image ${id} is no ${what}: its container format is ${image.container_format}, not ${format}`,
    );
  };
  await check(kernel_id, 'aki', 'kernel');
  await check(ramdisk_id, 'ari', 'ramdisk');
}

/** @throws InvalidInput */
function checkName(name: string): void {
  if (name.length >= 1 && name.length <= NAME_LENGTH) return;
  throw new InvalidInput(`the name of an image has 1 to ${NAME_LENGTH} characters; this one has ${name.length}`);
}

/** The number of `aki-0000000a`, as a manifest has it. @throws InvalidInput */
function imageNumber(prefix: string, text: string | null): number | null {
  if (text === null) return null;
  const hex = new RegExp(`^${prefix}-([0-9a-f]{1,8})$`).exec(text)?.[1];
  if (hex !== undefined) return parseInt(hex, 16);
  throw new InvalidInput(
    `the manifest names '${text.slice(0, 40)}' where it must name an image like ${prefix}-0000000a`,
  );
}
