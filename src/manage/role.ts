import {
  addRole,
  authFlags,
  checkRoleName,
  hasRole,
  PROJECT_MANAGER,
  removeRole,
  standingOf,
} from '../common/auth/access.ts';
import { optional, text, verb, type Noun } from './noun.ts';

const args = {
  user: text('Name of the user'),
  role: text('Name of the role: one of --allowed_roles'),
  project: optional(text('Name of the project; everywhere when left out')),
};
const details =
  'A role counts where it is held twice, everywhere and in the project: to let ann run instances in web,\n' +
  'role add ann sysadmin and role add ann sysadmin web. Roles of --global_roles are held everywhere only.\n' +
  "A project's manager may run instances there without a role.";

/** Source: Nova 2011.3 bin/nova-manage RoleCommands. */
export const roleCommands: Noun = {
  name: 'role',
  summary: 'What users may do',
  verbs: {
    add: verb({
      summary: 'Give a user a role, everywhere or in a project',
      details,
      args,
      run: (m, { user, role, project = null }) => addRole(m.db, m.flags.read(authFlags), { user, role, project }),
    }),
    has: verb({
      summary: 'Print True if the user acts in the role, else False',
      details,
      args,
      run: async (m, { user, role, project = null }) => {
        const rules = m.flags.read(authFlags);
        if (role !== PROJECT_MANAGER) checkRoleName(rules, role);
        m.out(hasRole(await standingOf(m.db, user, project), role, rules) ? 'True' : 'False');
      },
    }),
    remove: verb({
      summary: 'Take a role from a user, everywhere or in a project',
      details,
      args,
      run: async (m, { user, role, project = null }) => {
        if (!(await removeRole(m.db, m.flags.read(authFlags), { user, role, project })))
          m.warn(`${user} did not have the role ${role}${project === null ? '' : ` in ${project}`}`);
      },
    }),
  },
};
