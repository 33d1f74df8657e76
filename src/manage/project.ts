import { novarcText } from '../common/auth/novarc.ts';
import { endpointFlags } from '../common/core_flags.ts';
import { userInProject } from '../common/auth/identity.ts';
import { authFlags } from '../common/auth/access.ts';
import { clock } from '../common/clock.ts';
import { lockProject, writing } from '../common/db/connect.ts';
import { scrubProjectNetworks } from '../common/db/project_networks.ts';
import {
  addMember,
  createProject,
  deleteProject,
  getProject,
  listProjects,
  modifyProject,
  removeMember,
} from '../common/db/projects.ts';
import { isQuotaResource, projectQuota, QUOTA_RESOURCES, quotaFlags, setQuota } from '../common/db/quotas.ts';
import { scrubProjectGroups } from '../common/db/security_groups.ts';
import { getUser } from '../common/db/users.ts';
import { InvalidInput } from '../common/errors.ts';
import { userCertificate } from './ca.ts';
import { alsoCalled, optional, text, verb, type Manage, type Noun } from './noun.ts';
import { writeSecret } from './secret_file.ts';
import { zip } from './zip.ts';

const project = text('Name of the project');
const user = text('Name of the user');
const name = alsoCalled(['project'], project);
const description = alsoCalled(['desc'], optional(text('What it is for')));

/** Source: Nova 2011.3 bin/nova-manage ProjectCommands. */
export const projectCommands: Noun = {
  name: 'project',
  summary: 'Projects, their members, quotas and credentials',
  verbs: {
    add: verb({
      summary: 'Make a user a member of a project',
      args: { project, user },
      run: (m, { project, user }) => writing(m.db, (tx) => addMember(tx, project, user)),
    }),
    create: verb({
      summary: 'Make a project; its manager becomes a member',
      args: {
        name,
        manager: alsoCalled(['user'], text('Name of the user who manages it')),
        description,
      },
      run: async (m, args) => {
        await writing(m.db, (tx) => createProject(tx, args));
      },
    }),
    delete: verb({
      summary: 'Take away a project without instances, volumes and images, with its members, roles, quotas and groups',
      details: 'Its buckets stay: administrators reach them, and no later project of that name.',
      args: { name },
      run: (m, { name }) => writing(m.db, (tx) => deleteProject(tx, name)),
    }),
    environment: verb({
      summary: 'Write the file that makes a shell speak for a user in a project',
      details: 'Source it: . ./novarc. It holds the secret key, and is readable by you alone.',
      args: { project, user, file: optional(text('Where to write it; - is standard output'), 'novarc') },
      run: environment,
    }),
    list: verb({
      summary: 'Print the names of all projects, or of those that a user is in',
      args: { user: optional(user) },
      run: async (m, { user }) => {
        if (user !== undefined) await getUser(m.db, user);
        for (const one of await listProjects(m.db, user)) m.out(one.id);
      },
    }),
    modify: verb({
      summary: 'Name another manager, who becomes a member, or another description',
      args: {
        name,
        manager: alsoCalled(['user'], optional(text("Name of the user who manages it; '' keeps who does"))),
        description,
      },
      run: (m, { name, ...change }) => writing(m.db, (tx) => modifyProject(tx, name, change)),
    }),
    quota: verb({
      summary: 'Print the limits of a project, after changing one',
      details: 'A limit is a number or unlimited (-1 means the same). It holds from the next request on.',
      args: {
        project,
        key: optional(text(`What to limit: ${Object.keys(QUOTA_RESOURCES).join(', ')}`)),
        value: optional(text('The limit')),
      },
      run: quota,
    }),
    remove: verb({
      summary: 'End the membership of a user in a project, with the roles there',
      args: { project, user },
      run: (m, { project, user }) => writing(m.db, (tx) => removeMember(tx, project, user)),
    }),
    scrub: verb({
      summary: 'Take away networks and security groups of a project that has no instances',
      args: { project },
      run: async (m, { project }) => {
        const networks = await writing(m.db, async (tx) => {
          await lockProject(tx, m.db.dialect, project); // nobody launches meanwhile
          await scrubProjectGroups(tx, project);
          return scrubProjectNetworks(tx, m.db.dialect, project);
        });
        for (const { cidr, free } of networks)
          m.out(
            free
              ? `${cidr} is free`
              : `${cidr} is free when the leases of its last addresses have ended (nova-manage fixed list)`,
          );
      },
    }),
    zipfile: verb({
      summary: 'Write a zip with novarc, pk.pem, cert.pem and cacert.pem, which bundling an image takes',
      details:
        'Run it on the host of nova-objectstore: the first run makes the CA in --ca_path, whose key opens bundles there.\n' +
        'Each run makes a new key and certificate. The zip holds secrets, and is readable by you alone.',
      args: { project, user, file: optional(text('Where to write it'), 'nova.zip') },
      run: zipfile,
    }),
  },
};

interface Credentials {
  project: string;
  user: string;
  file: string;
}

async function environment(m: Manage, args: Credentials): Promise<void> {
  const rc = await novarcOf(m, args);
  if (args.file === '-') return m.out(rc.trimEnd());
  writeSecret(args.file, rc);
}

async function zipfile(m: Manage, args: Credentials): Promise<void> {
  const novarc = await novarcOf(m, args);
  const { private_key, certificate, ca } = await userCertificate(m, args.project, args.user);
  const files = { novarc, 'pk.pem': private_key, 'cert.pem': certificate, 'cacert.pem': ca };
  writeSecret(args.file, zip(files, clock.now()));
}

async function novarcOf(m: Manage, args: Credentials): Promise<string> {
  const user = await getUser(m.db, args.user);
  await getProject(m.db, args.project);
  await userInProject(m.db, m.flags.read(authFlags), user, args.project); // keys that open nothing help nobody
  return novarcText(user, args.project, m.flags.read(endpointFlags));
}

async function quota(
  m: Manage,
  { project, key, value }: { project: string; key: string | undefined; value: string | undefined },
): Promise<void> {
  await getProject(m.db, project);
  if (key !== undefined) {
    if (!isQuotaResource(key))
      throw new InvalidInput(`'${key}' has no limit; what has one is ${Object.keys(QUOTA_RESOURCES).join(', ')}`);
    if (value !== undefined) await writing(m.db, (tx) => setQuota(tx, project, key, limitOf(value)));
  }
  const limits = await projectQuota(m.db, m.flags.read(quotaFlags), project);
  for (const [resource, limit] of Object.entries(limits))
    if (key === undefined || value !== undefined || key === resource) m.out(`${resource}: ${limit ?? 'unlimited'}`);
}

/** @throws InvalidInput */
function limitOf(value: string): number | null {
  if (value === 'unlimited' || value === '-1') return null;
  const limit = Number(value);
  if (/^\d+$/.test(value) && limit <= 2 ** 31 - 1) return limit;
  throw new InvalidInput(`'${value}' is no limit: a whole number from 0 to ${2 ** 31 - 1}, or unlimited`);
}
