import { join } from 'node:path';
import { boolean, defineFlags, string } from '../flags/define.ts';

export const caFlags = defineFlags({
  ca_path: string('$state_path/CA', 'CA directory'),
  ca_file: string('cacert.pem', 'CA certificate file name (relative to ca_path)'),
  key_file: string('private/cakey.pem', 'CA private key path, relative'),
  use_project_ca: boolean(false, 'A CA of its own for each project, in ca_path/projects'),
});

/** Where the CA is that bundles of a project are encrypted to. Source: Nova 2011.3 nova/crypto.py ca_folder. */
export const caFolder = (flags: { ca_path: string; use_project_ca: boolean }, project_id: string): string =>
  flags.use_project_ca ? join(flags.ca_path, 'projects', project_id) : flags.ca_path;

/** The private key of that CA. Source: Nova 2011.3 nova/crypto.py key_path. */
export const cloudKeyPath = (
  flags: { ca_path: string; key_file: string; use_project_ca: boolean },
  project_id: string,
): string => join(caFolder(flags, project_id), flags.key_file);
