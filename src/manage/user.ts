import { writing } from '../common/db/connect.ts';
import { createUser, deleteUser, getUser, listUsers, modifyUser, type User } from '../common/db/users.ts';
import { shellWord } from '../common/auth/novarc.ts';
import { optional, text, verb, yesNo, type Manage, type Noun, type Verb } from './noun.ts';

const name = text('Name of the user');

function printExports(m: Manage, user: User): void {
  m.out(`export EC2_ACCESS_KEY=${shellWord(user.access_key)}`);
  m.out(`export EC2_SECRET_KEY=${shellWord(user.secret_key)}`);
}

const creation = (is_admin: boolean): Verb =>
  verb({
    may_be_first: true,
    summary: is_admin ? 'Make an administrator, who may do everything' : 'Make a user',
    details:
      'Prints the keys as lines for a shell. A user can do nothing before it is in a project:\n' +
      'see project create and project add.',
    args: {
      name,
      access: optional(text('Access key; made when left out')),
      secret: optional(text('Secret key; made when left out')),
    },
    run: async (m, { name, access, secret }) =>
      printExports(m, await createUser(m.db, { name, access_key: access, secret_key: secret, is_admin })),
  });

/** Source: Nova 2011.3 bin/nova-manage UserCommands. */
export const userCommands: Noun = {
  name: 'user',
  summary: 'Users and their keys',
  verbs: {
    admin: creation(true),
    create: creation(false),
    delete: verb({
      summary: 'Take away a user with its key pairs, memberships and roles',
      args: { name },
      run: (m, { name }) => writing(m.db, (tx) => deleteUser(tx, name)),
    }),
    exports: verb({
      summary: "Print a user's keys as lines for a shell",
      args: { name },
      run: async (m, { name }) => printExports(m, await getUser(m.db, name)),
    }),
    list: verb({
      summary: 'Print the names of all users',
      run: async (m) => {
        for (const user of await listUsers(m.db)) m.out(user.id);
      },
    }),
    modify: verb({
      summary: 'Change keys or the right of administration',
      details:
        "An empty word ('') keeps what is there. A new key also ends the user's tokens of the OpenStack and identity APIs.\n" +
        'Servers may know the old keys and tokens for two more seconds.',
      args: {
        name,
        access: optional(text('New access key')),
        secret: optional(text('New secret key')),
        is_admin: optional(yesNo('T: administrator, F: no more')),
      },
      run: (m, { name, access, secret, is_admin }) =>
        writing(m.db, (tx) => modifyUser(tx, name, { access_key: access, secret_key: secret, is_admin })),
    }),
  },
};
