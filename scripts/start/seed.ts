import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { writing, type NovaDb } from '../../src/common/db/connect.ts';
import { addMember, createProject, findProject } from '../../src/common/db/projects.ts';
import { allNetworks, deleteNetwork } from '../../src/common/db/networks.ts';
import { createUser, findUser, type User } from '../../src/common/db/users.ts';
import { runManage } from '../../src/manage/run.ts';
import type { GuestImageFiles } from '../guest_image.ts';
import { StartError } from './start_error.ts';
import type { StateFolder } from './state_folder.ts';

/** What a cloud needs before its first launch. Each of these looks at what an earlier start made. */

export const USER = 'nova';
export const PROJECT = 'nova';

/** nova-manage in this process. @returns what it printed. @throws StartError with what it complained of */
export async function manage(state: StateFolder, ...words: string[]): Promise<string> {
  const said: string[] = [];
  const complaints: string[] = [];
  const code = await runManage([`--flagfile=${state.path('nova.flags')}`, ...words], {
    out: (line) => said.push(line),
    warn: (line) => complaints.push(line),
  });
  if (code !== 0) throw new StartError(`nova-manage ${words.join(' ')}: ${complaints.join('\n')}`);
  return said.join('\n');
}

/** An administrator, since this cloud is one person's; and their project. */
export async function seedPeople(db: NovaDb): Promise<User> {
  const user = (await findUser(db, USER)) ?? (await createUser(db, { name: USER, is_admin: true }));
  await writing(db, async (tx) => {
    if (!(await findProject(tx, PROJECT))) await createProject(tx, { name: PROJECT, manager: USER });
    else await addMember(tx, PROJECT, USER);
  });
  return user;
}

/** One network, of exactly this range on this bridge. There are no guests yet. */
export async function seedNetwork(
  db: NovaDb,
  state: StateFolder,
  { cidr, bridge }: { cidr: string; bridge: string },
): Promise<void> {
  const networks = await allNetworks(db);
  for (const other of networks.filter((network) => network.cidr !== cidr || network.bridge !== bridge))
    await deleteNetwork(db, other.id);
  if (!networks.some((network) => network.cidr === cidr && network.bridge === bridge))
    await manage(state, 'network', 'create', cidr, '1', '256');
}

const IMAGE = 'tiny';

/** Registers kernel, ramdisk and disk of the test guest unless just these bytes are there. @returns the image's id */
export async function seedImage(db: NovaDb, state: StateFolder, files: GuestImageFiles): Promise<number> {
  const find = async () => {
    const rows = await db
      .selectFrom('images as image')
      .innerJoin('images as kernel', 'kernel.id', 'image.kernel_id')
      .innerJoin('images as ramdisk', 'ramdisk.id', 'image.ramdisk_id')
      .select('image.id')
      .where('image.name', '=', IMAGE)
      .where('image.checksum', '=', sha256(files.rootfs))
      .where('kernel.checksum', '=', sha256(files.kernel))
      .where('ramdisk.checksum', '=', sha256(files.ramdisk))
      .where((e) => e.and(['image', 'kernel', 'ramdisk'].map((one) => e(`${one as 'image'}.deleted`, '=', 0))))
      .orderBy('image.id', 'desc')
      .execute();
    return rows[0]?.id;
  };
  const known = await find();
  if (known !== undefined) return known;
  await manage(state, 'image', 'all_register', files.rootfs, files.kernel, files.ramdisk, PROJECT, IMAGE);
  const made = await find();
  if (made === undefined) throw new StartError(`the image ${IMAGE} was registered and is not there`);
  return made;
}

/** For guests that never boot. */
export async function fakeGuestImage(state: StateFolder): Promise<GuestImageFiles> {
  const [kernel, ramdisk, rootfs] = ['kernel', 'ramdisk', 'rootfs'].map((name) => {
    state.write(`fake_${name}`, `a fake ${name}\n`);
    return state.path(`fake_${name}`);
  }) as [string, string, string];
  return { dir: state.dir, kernel, ramdisk, rootfs, disk: rootfs };
}

const sha256 = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');

/** For a shell to source. */
export async function writeNovarc(state: StateFolder): Promise<void> {
  await manage(state, 'project', 'environment', PROJECT, USER, state.path('novarc'));
}
