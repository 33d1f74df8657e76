import type { RequestContext } from '../../common/context.ts';
import type { Image } from '../../common/db/images.ts';
import { MissingParameter } from '../../common/errors.ts';
import { action } from './deps.ts';
import { filters, matcher, type Fields } from './filters.ts';
import { formatId, type IdPrefix } from './ids.ts';
import { ec2Time } from './instance_view.ts';
import { afterId, cutPage, pagingParams } from './paging.ts';
import { imageId, list, optional, str } from './params.ts';
import type { XmlObject } from './xml.ts';

/** `--null_kernel` is the word for: no kernel, boot the disk. @throws InvalidInput, ImageNotFound */
export function kernelOf(text: string | undefined, null_kernel: string): { kernel_id?: number | null } {
  if (text === undefined) return {};
  if (text === null_kernel) return { kernel_id: null };
  return { kernel_id: imageId().decode({ value: text, children: undefined }, 'KernelId') };
}

export const describeImages = action('DescribeImages', {
  about: 'Images that the project may use',
  params: {
    ImageId: list(imageId()),
    Owner: list(str()),
    ExecutableBy: list(str()),
    Filter: filters(),
    ...pagingParams,
  },
  roles: 'all',
  async run(ctx, { ImageId, Owner, ExecutableBy, Filter, ...paging }, { images }) {
    const matches = matcher(Filter, FIELDS);
    const marker = afterId(paging);
    const asked = (await images.list(ctx, ImageId)).filter(
      (image) =>
        image.id > marker &&
        (Owner.length === 0 || Owner.some((owner) => isOwner(ctx, image, owner))) &&
        (ExecutableBy.length === 0 || ExecutableBy.some((word) => isExecutable(ctx, image, word))) &&
        matches(image),
    );
    const { page, nextToken } = cutPage(asked, paging);
    return { imagesSet: page.map(viewImage), nextToken };
  },
});

/** Answers at once; the image is pending until nova-objectstore has its bytes, then available, or failed with the reason. */
export const registerImage = action('RegisterImage', {
  about:
    'Makes an image of an object in a bucket (`bucket/key`): a disk, a kernel, a ramdisk or a bundle; see [S3](objectstore.md)',
  params: {
    ImageLocation: optional(str({ max: 1024 })),
    Name: optional(str({ max: 1024 })),
    Description: optional(str()),
    Architecture: optional(str()),
    KernelId: optional(str()),
    RamdiskId: optional(imageId()),
  },
  roles: ['projectmanager', 'sysadmin'],
  async run(ctx, { ImageLocation, Name, Description, Architecture, KernelId, RamdiskId }, { images, settings }) {
    const location = ImageLocation ?? Name; // old clients send the location as the name
    if (location === undefined) throw new MissingParameter('the parameter ImageLocation is missing: bucket/key');
    const image = await images.register(ctx, {
      location,
      name: ImageLocation === undefined ? undefined : Name,
      description: Description,
      architecture: Architecture,
      ...kernelOf(KernelId, settings.null_kernel),
      ramdisk_id: RamdiskId,
    });
    return { imageId: idOf(image) };
  },
});

export const deregisterImage = action('DeregisterImage', {
  about: 'Forgets an image; instances that run go on',
  params: { ImageId: imageId() },
  roles: ['projectmanager', 'sysadmin'],
  async run(ctx, { ImageId }, { images }) {
    const image = await images.show(ctx, ImageId);
    await images.deregister(ctx, ImageId);
    return { imageId: idOf(image), return: true };
  },
});

const isOwner = (ctx: RequestContext, image: Image, owner: string): boolean =>
  image.project_id === (owner === 'self' ? ctx.project_id : owner);

/** `all`: public; a project's own are all that it alone may launch. */
const isExecutable = (ctx: RequestContext, image: Image, word: string): boolean =>
  word === 'all' ? image.is_public === 1 : isOwner(ctx, image, word);

const PREFIXES: Readonly<Record<string, IdPrefix>> = { aki: 'aki', kernel: 'aki', ari: 'ari', ramdisk: 'ari' };
const TYPES = { ami: 'machine', aki: 'kernel', ari: 'ramdisk' } as const;

const prefixOf = ({ container_format }: Image): 'ami' | 'aki' | 'ari' => {
  const prefix = PREFIXES[container_format];
  return prefix === 'aki' || prefix === 'ari' ? prefix : 'ami';
};
export const idOf = (image: Image): string => formatId(prefixOf(image), image.id);
const propertiesOf = (image: Image): Record<string, string> => JSON.parse(image.properties) as Record<string, string>;

/** AWS's pending, available and failed; Nova's decrypting, untarring and uploading in between. */
function stateOf(image: Image): string {
  if (image.status === 'active') return 'available';
  return image.status === 'error' ? 'failed' : (propertiesOf(image)['image_state'] ?? 'pending');
}

/** Source: Nova 2011.3 nova/api/ec2/cloud.py, _format_image; the owner is the project, which Nova left empty */
function viewImage(image: Image): XmlObject {
  return {
    imageId: idOf(image),
    kernelId: image.kernel_id === null ? undefined : formatId('aki', image.kernel_id),
    ramdiskId: image.ramdisk_id === null ? undefined : formatId('ari', image.ramdisk_id),
    imageOwnerId: image.project_id,
    imageLocation: image.name === '' ? image.location : `${image.location} (${image.name})`,
    imageState: stateOf(image),
    stateReason: image.fault === null ? undefined : { code: 'Server.InternalError', message: image.fault },
    displayName: image.name,
    name: image.name,
    description: propertiesOf(image)['description'] ?? null,
    imageType: TYPES[prefixOf(image)],
    isPublic: image.is_public === 1,
    architecture: image.architecture,
    creationDate: ec2Time(image.created_at),
    rootDeviceName: '/dev/sda1',
    rootDeviceType: 'instance-store',
    blockDeviceMapping: [],
    virtualizationType: 'hvm',
    tagSet: [],
  };
}

const FIELDS: Fields<Image> = {
  'image-id': idOf,
  name: ({ name }) => name,
  description: (image) => propertiesOf(image)['description'] ?? null,
  state: stateOf,
  'image-type': (image) => TYPES[prefixOf(image)],
  'is-public': ({ is_public }) => is_public === 1,
  architecture: ({ architecture }) => architecture,
  'owner-id': ({ project_id }) => project_id,
  'kernel-id': ({ kernel_id }) => (kernel_id === null ? null : formatId('aki', kernel_id)),
  'ramdisk-id': ({ ramdisk_id }) => (ramdisk_id === null ? null : formatId('ari', ramdisk_id)),
  'manifest-location': ({ location }) => location,
  'root-device-type': () => 'instance-store',
  'virtualization-type': () => 'hvm',
};
