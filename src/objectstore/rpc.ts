import type { RequestContext } from '../common/context.ts';
import type { RpcBus } from '../common/rpc/bus.ts';
import { call, cast, rpcClient, rpcContract } from '../common/rpc/contract.ts';

/** What RegisterImage learns of its ImageLocation before it makes a record. */
export interface ImageLocation {
  /** Bytes of the object; of a bundle, of its parts. */
  size_bytes: number;
  /** The object is an EC2 manifest (`*.manifest.xml`), whose parts hold the image. */
  bundle: boolean;
  /** What a manifest says; null for a plain object. */
  container_format: 'ami' | 'aki' | 'ari' | null;
  architecture: string | null;
  /** `aki-...`, `ari-...` as the manifest has them. */
  kernel: string | null;
  ramdisk: string | null;
  /** JSON of the manifest's [{virtual, device}]. */
  mappings: string | null;
}

/** Every method nova-objectstore answers. Nova's had none: nova-api itself fetched and unpacked bundles. */
export interface ObjectstoreRpc {
  /**
   * Looks whether the caller may read that object, and what is in it.
   * @throws BucketNotFound, KeyNotFound, NotAuthorized, InvalidInput for a manifest that cannot be read,
   * UnsupportedOperation for a bundle when there is no key to open it
   */
  inspectLocation(ctx: RequestContext, args: { bucket: string; key: string }): Promise<ImageLocation>;
  /** Copies the image's object into the image store, which makes the image active; one that is active stays as it is. */
  registerImage(ctx: RequestContext, args: { image_id: number }): Promise<void>;
  /** Takes the bytes of a deleted or failed image away. */
  deleteImage(ctx: RequestContext, args: { image_id: number }): Promise<void>;
}

export const imageResource = (id: number): string => `image:${id}`;
const ofImage = (args: { image_id: number }): string => imageResource(args.image_id);

export const objectstoreContract = rpcContract<ObjectstoreRpc>('objectstore', {
  inspectLocation: call('inspect_location'),
  registerImage: cast('register_image', { resource: ofImage }),
  deleteImage: cast('delete_image', { resource: ofImage, wins: true, max_attempts: 20 }),
});
export const objectstoreClient = (bus: RpcBus) => rpcClient(objectstoreContract, bus);
