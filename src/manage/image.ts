import { ec2ImageId, visibleImages, type Image } from '../common/db/images.ts';
import { getProject } from '../common/db/projects.ts';
import { ImageApi } from '../objectstore/api.ts';
import { numberOf, optional, parseId, text, verb, word, yesNo, type Manage, type Noun } from './noun.ts';
import { convertImages } from './image_convert.ts';
import { checkFile, KERNEL, MACHINE, RAMDISK, storeImageFile, type Formats, type Given } from './image_file.ts';
import { table } from './table.ts';

const HEADING = [
  'image',
  'id',
  'name',
  'status',
  'project',
  'public',
  'container',
  'disk',
  'arch',
  'kernel',
  'ramdisk',
  'size',
];

const path = text('File with the bytes; the image store of this host gets a copy');
const owner = text('Name of the project that it belongs to');
const name = optional(text('Name; by default that of the file'));
const is_public = optional(yesNo('T: every project may use it; F: only its owner'), true);
const arch = optional(text('Architecture'), 'x86_64');

/** Source: Nova 2011.3 bin/nova-manage ImageCommands. */
export const imageCommands: Noun = {
  name: 'image',
  summary: 'Images; run it on the host of nova-objectstore, whose image store is filled',
  verbs: {
    image_register: verb({
      summary: 'Register a machine image',
      args: {
        path,
        owner,
        name,
        public: is_public,
        arch,
        cont_format: optional(word('Container format', ['bare', 'ami']), 'bare'),
        disk_format: optional(word('Disk format; qcow2 is recognised by itself', ['raw', 'qcow2', 'ami']), 'raw'),
        kernel: optional(numberOf('aki', 'Image id of its kernel')),
        ram: optional(numberOf('ari', 'Image id of its ramdisk')),
      },
      run: async (m, { cont_format, kernel, ram, ...a }) => {
        const parts = { kernel_id: kernel ?? null, ramdisk_id: ram ?? null };
        await register(m, a, { container_format: cont_format, disk_format: a.disk_format, ...parts });
      },
    }),
    kernel_register: verb({
      summary: 'Register a kernel',
      args: { path, owner, name, public: is_public, arch },
      run: async (m, a) => void (await register(m, a, KERNEL)),
    }),
    ramdisk_register: verb({
      summary: 'Register a ramdisk',
      args: { path, owner, name, public: is_public, arch },
      run: async (m, a) => void (await register(m, a, RAMDISK)),
    }),
    all_register: verb({
      summary: 'Register a kernel, a ramdisk, and the machine image that boots with them',
      args: {
        image: text('File of the machine image'),
        kernel: text('File of the kernel'),
        ram: text('File of the ramdisk'),
        owner,
        name,
        public: is_public,
        arch,
      },
      run: async (m, { image, kernel, ram, name, ...a }) => {
        for (const file of [image, kernel, ram]) await checkFile(file); // all or none
        const kernel_id = await register(m, { ...a, path: kernel, name: undefined }, KERNEL);
        const ramdisk_id = await register(m, { ...a, path: ram, name: undefined }, RAMDISK);
        await register(m, { ...a, path: image, name }, { ...MACHINE, kernel_id, ramdisk_id });
      },
    }),
    convert: verb({
      summary: 'Bring in the images of a Bexar image store: folders with info.json and image',
      args: { dir: text('Folder of those folders; it stays as it is') },
      run: async (m, { dir }) => convertImages(m, dir),
    }),
    list: verb({
      summary: 'Print every image, or those of a project and the public ones',
      args: { project: optional(text('Name of the project')) },
      run: async (m, { project }) => {
        if (project !== undefined) await getProject(m.db, project);
        const ctx = project === undefined ? m.ctx : { ...m.ctx, is_admin: false, project_id: project };
        const rows = (await visibleImages(m.db, ctx).orderBy('id').execute()).map(listed);
        for (const line of table([HEADING, ...rows])) m.out(line);
      },
    }),
    delete: verb({
      summary: 'Delete an image; nova-objectstore takes its bytes away',
      args: { image: text('Image id') },
      run: async (m, { image }) => {
        const id = parseId('a[mkr]i', image);
        await new ImageApi({ db: m.db, bus: null }).deregister(m.ctx, id);
        m.out(`${image} deleted`);
      },
    }),
  },
};

/** @returns the image's id */
async function register(m: Manage, given: Given, formats: Formats): Promise<number> {
  const id = await storeImageFile(m, given, formats);
  m.out(`Image registered to ${id} (${id.toString(16).padStart(8, '0')}).`);
  return id;
}

const listed = (image: Image): string[] => [
  ec2ImageId(image.id, image.container_format),
  String(image.id),
  image.name,
  image.fault === null ? image.status : `${image.status} (${image.fault})`,
  image.project_id,
  image.is_public ? 'T' : 'F',
  image.container_format,
  image.disk_format,
  image.architecture,
  image.kernel_id === null ? '-' : ec2ImageId(image.kernel_id, 'aki'),
  image.ramdisk_id === null ? '-' : ec2ImageId(image.ramdisk_id, 'ari'),
  image.size_bytes === null ? '-' : String(image.size_bytes),
];
