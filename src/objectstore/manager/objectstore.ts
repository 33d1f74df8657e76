import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { addAbortSignal, type Readable } from 'node:stream';
import { caFlags, cloudKeyPath } from '../../common/auth/ca_flags.ts';
import type { RequestContext } from '../../common/context.ts';
import type { NovaDb } from '../../common/db/connect.ts';
import { recordEvent } from '../../common/db/events.ts';
import { findProject } from '../../common/db/projects.ts';
import { failImage, imageById, mergeImageProperties, queueImage, type Image } from '../../common/db/images.ts';
import { InvalidInput, KeyNotFound, NotAuthorized, NotFound } from '../../common/errors.ts';
import type { Flags, FlagValues } from '../../common/flags.ts';
import { imageFlags, imagePath, kernelFlags, storeImage } from '../../common/image/store.ts';
import type { Log } from '../../common/log.ts';
import type { Manager } from '../../common/manager.ts';
import type { ObjectSource } from '../drivers/driver.ts';
import { isOwner } from '../logic/bucket_owner.ts';
import { HEAD_BYTES, imageKind } from '../logic/image_kind.ts';
import { isManifest, parseLocation } from '../logic/location.ts';
import { BundleFailed, bundleCipher, readCloudKey, unpackBundle } from './bundle.ts';
import { MANIFEST_BYTES, parseManifest, type Manifest } from './manifest.ts';
import { imageResource, type ImageLocation, type ObjectstoreRpc } from '../rpc.ts';

const SWEEP_MS = 3_600_000;

export interface ObjectstoreManagerDeps {
  db: NovaDb;
  flags: Flags;
  log: Log;
  host: string;
  objects: ObjectSource;
  /** Takes away what dead processes left among the buckets. */
  sweep: () => Promise<void>;
}

/** Makes images of objects. Source: Nova 2011.3 nova/image/s3.py, which did this inside nova-api. */
export class ObjectstoreManager implements ObjectstoreRpc, Manager {
  readonly #d: ObjectstoreManagerDeps;
  readonly #images_path: string;
  readonly #ca: FlagValues<typeof caFlags>;
  readonly #null_kernel: string;
  #swept_at = 0;

  constructor(deps: ObjectstoreManagerDeps) {
    this.#d = deps;
    this.#ca = deps.flags.read(caFlags);
    this.#null_kernel = deps.flags.read(kernelFlags).null_kernel;
    this.#images_path = deps.flags.read(imageFlags).images_path;
  }

  async initHost(): Promise<void> {}

  async periodicTasks(): Promise<void> {
    if (performance.now() - this.#swept_at < SWEEP_MS && this.#swept_at !== 0) return;
    this.#swept_at = performance.now();
    await this.#d.sweep();
  }

  async inspectLocation(ctx: RequestContext, { bucket, key }: { bucket: string; key: string }): Promise<ImageLocation> {
    await this.#checkAccess(ctx, bucket);
    const size_bytes = this.#d.objects.sizeOf(bucket, key);
    if (!isManifest(key))
      return {
        size_bytes,
        bundle: false,
        container_format: imageKind(await this.#head(bucket, key)),
        architecture: null,
        kernel: null,
        ramdisk: null,
        mappings: null,
      };
    if (ctx.project_id !== null) await readCloudKey(cloudKeyPath(this.#ca, ctx.project_id)); // else it never opens
    const manifest = await this.#manifest(bucket, key);
    const sizes = this.#partKeys(bucket, key, manifest).map((part) => this.#d.objects.sizeOf(bucket, part));
    const { container_format, architecture, kernel, ramdisk, mappings } = manifest;
    return {
      size_bytes: sizes.reduce((sum, size) => sum + size, 0),
      bundle: true,
      container_format,
      architecture,
      kernel: kernel === this.#null_kernel ? null : kernel,
      ramdisk,
      mappings,
    };
  }

  async #head(bucket: string, key: string): Promise<Buffer> {
    let head = Buffer.alloc(0);
    for await (const bytes of this.#d.objects.read(bucket, key) as AsyncIterable<Buffer>) {
      head = Buffer.concat([head, bytes.subarray(0, HEAD_BYTES)]);
      if (head.length >= HEAD_BYTES) break; // which closes the object
    }
    return head;
  }

  /** @throws KeyNotFound, InvalidInput */
  async #manifest(bucket: string, key: string): Promise<Manifest> {
    const size = this.#d.objects.sizeOf(bucket, key);
    if (size > MANIFEST_BYTES)
      throw new InvalidInput(`the manifest ${key} has ${size} bytes; at most ${MANIFEST_BYTES} are read`);
    const parts: Buffer[] = [];
    for await (const bytes of this.#d.objects.read(bucket, key) as AsyncIterable<Buffer>) parts.push(bytes);
    return parseManifest(Buffer.concat(parts).toString('utf8'));
  }

  /** The parts stand beside the manifest; Nova looked at the top of the bucket only. @throws KeyNotFound */
  #partKeys(bucket: string, key: string, manifest: Manifest): string[] {
    const folder = key.slice(0, key.lastIndexOf('/') + 1);
    return manifest.parts.map((name) => {
      const beside = folder + name;
      if (folder === '') return beside;
      try {
        this.#d.objects.sizeOf(bucket, beside);
        return beside;
      } catch (err) {
        if (err instanceof KeyNotFound) return name;
        throw err;
      }
    });
  }

  /** @throws NotAuthorized */
  async #checkAccess(ctx: RequestContext, bucket: string): Promise<void> {
    const owner = this.#d.objects.ownerOf(bucket);
    if (ctx.is_admin) return;
    const project = await findProject(this.#d.db, ctx.project_id ?? '');
    if (project && isOwner(owner, project.id, project.created_at)) return;
    throw new NotAuthorized(`the bucket ${bucket} belongs to another project than ${ctx.project_id}`);
  }

  async registerImage(ctx: RequestContext, { image_id }: { image_id: number }): Promise<void> {
    const { db, objects, host } = this.#d;
    const image = await imageById(db, image_id);
    if (image === undefined || image.deleted !== 0) return;
    if (image.status === 'active') return this.#state(image, 'available');
    if (!(await queueImage(db, image_id))) return; // deleted this moment
    await this.#removeBytes(image_id); // what an attempt that was killed left
    const { bucket, key } = parseLocation(image.location);
    await this.#checkAccess(ctx, bucket); // the bucket may have changed hands since it was asked for
    const source = isManifest(key) ? await this.#bundle(image, bucket, key) : objects.read(bucket, key);
    await this.#state(image, 'uploading');
    const stored = await storeImage(db, this.#images_path, image_id, addAbortSignal(ctx.signal, source));
    await this.#state(image, 'available');
    await recordEvent(db, ctx, imageResource(image_id), 'image stored', host, stored);
  }

  /** The image inside a bundle, decrypted and unpacked while it is read. */
  async #bundle(image: Image, bucket: string, key: string): Promise<Readable> {
    await this.#state(image, 'decrypting');
    const manifest = await this.#manifest(bucket, key);
    const keys = this.#partKeys(bucket, key, manifest);
    const cipher = await bundleCipher(manifest, cloudKeyPath(this.#ca, image.project_id));
    await this.#state(image, 'untarring');
    const { objects } = this.#d;
    async function* parts(): AsyncGenerator<Buffer> {
      for (const part of keys) yield* objects.read(bucket, part) as AsyncIterable<Buffer>;
    }
    return unpackBundle(parts, cipher, manifest.size_bytes);
  }

  #state(image: Image, image_state: string): Promise<void> {
    return mergeImageProperties(this.#d.db, image.id, { image_state });
  }

  async deleteImage(_ctx: RequestContext, { image_id }: { image_id: number }): Promise<void> {
    const image = await imageById(this.#d.db, image_id);
    if (image !== undefined && image.deleted === 0 && image.status !== 'error') return;
    await this.#removeBytes(image_id);
  }

  #removeBytes(image_id: number): Promise<void> {
    return rm(dirname(imagePath(this.#images_path, image_id)), { recursive: true, force: true });
  }

  async jobFailed(ctx: RequestContext, method: string, args: Record<string, unknown>, err: Error): Promise<void> {
    const image_id = Number(args['image_id']);
    if (method !== 'register_image' || !Number.isInteger(image_id)) return;
    if (!(await failImage(this.#d.db, image_id, err))) return; // all its bytes were there, or it was deleted
    await this.#removeBytes(image_id);
    const image_state =
      err instanceof BundleFailed ? err.image_state : err instanceof NotFound ? 'failed_download' : 'failed_upload';
    await mergeImageProperties(this.#d.db, image_id, { image_state });
    await recordEvent(this.#d.db, ctx, imageResource(image_id), 'image not stored', this.#d.host, {
      error: err.message,
    });
  }
}
