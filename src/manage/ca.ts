import { generateKeyPair, randomBytes } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { nowText } from '../common/clock.ts';
import { caFlags, caFolder } from '../common/auth/ca_flags.ts';
import { InvalidInput } from '../common/errors.ts';
import { execute } from '../common/execute.ts';
import { defineFlags, string } from '../common/flags.ts';
import type { Manage } from './noun.ts';

export const certFlags = defineFlags({
  user_cert_subject: string(
    '/C=US/ST=California/L=MountainView/O=AnsoLabs/OU=NovaDev/CN=%s-%s-%s',
    'Subject of a user certificate (project, user, timestamp)',
  ),
});

/** All PEM. */
export interface UserCertificate {
  private_key: string;
  certificate: string;
  /** Of the CA that bundles are encrypted to; behind it the root's, where a project has its own. */
  ca: string;
}

const CA_DAYS = '3650';
const USER_DAYS = '365';
/** X.509 allows a common name no more. */
const COMMON_NAME = 64;

/** A new key and its certificate, signed by the cloud's CA, which is made where it is missing. @throws InvalidInput, ProcessExecutionError */
export async function userCertificate(m: Manage, project: string, user: string): Promise<UserCertificate> {
  const flags = m.flags.read(caFlags);
  const { user_cert_subject } = m.flags.read(certFlags);
  const root = await ensureCa(m, flags.ca_path, 'NOVA ROOT');
  const own = flags.use_project_ca ? await ensureCa(m, caFolder(flags, project), `NOVA ${project}`) : root;
  const words = [project, user, nowText()];
  const subject = user_cert_subject
    .replace(/%s/g, () => words.shift() ?? '')
    .replace(/(?<=\/CN=)[^/]+/, (name) => name.slice(0, COMMON_NAME));
  const work = mkdtempSync(join(tmpdir(), 'nova-zipfile-')); // for this user alone
  try {
    const [pk, csr] = [join(work, 'pk.pem'), join(work, 'csr.pem')];
    const private_key = await newKey();
    writeFileSync(pk, private_key, { mode: 0o600 });
    await execute(['openssl', 'req', '-new', '-sha256', '-key', pk, '-subj', escaped(subject), '-out', csr]);
    const ca = ['-CA', own.cert, '-CAkey', own.key, '-set_serial', `0x${randomBytes(16).toString('hex')}`];
    const { stdout } = await execute(['openssl', 'x509', '-req', '-sha256', '-days', USER_DAYS, '-in', csr, ...ca]);
    const certs = [...new Set([own.cert, root.cert])].map((file) => readFileSync(file, 'utf8'));
    return { private_key, certificate: stdout, ca: certs.join('') };
  } finally {
    rmSync(work, { recursive: true });
  }
}

/**
 * Key first, then its certificate, each whole or not there: whoever is killed between leaves a key, of which the next
 * makes the certificate; two at once agree on the key of the faster. Source: Nova 2011.3 nova/CA/genrootca.sh
 */
async function ensureCa(m: Manage, folder: string, organization: string): Promise<{ key: string; cert: string }> {
  const { ca_file, key_file } = m.flags.read(caFlags);
  const [key, cert] = [join(folder, key_file), join(folder, ca_file)];
  if (existsSync(cert) && !existsSync(key))
    throw new InvalidInput(
      `there is ${cert}, but not its private key ${key}: bring it back, or run this on the host of nova-objectstore, ` +
        'or take the certificate away for a new CA, which opens no bundle of the old one',
    );
  const [new_key, new_cert] = [key, cert].map((file) => `${file}.${process.pid}.new`) as [string, string];
  try {
    mkdirSync(dirname(key), { recursive: true, mode: 0o700 });
    if (!existsSync(key)) {
      writeFileSync(new_key, await newKey(), { mode: 0o600 });
      linkUnlessThere(new_key, key);
      m.warn(
        `the cloud's CA was made: ${folder}. nova-objectstore of this host opens bundles with its key; keep it safe`,
      );
    }
    if (!existsSync(cert)) {
      const name = organization.slice(0, COMMON_NAME);
      const subject = `/C=US/ST=California/L=Mountain View/O=${name}/CN=${name}`;
      const self = ['-x509', '-sha256', '-days', CA_DAYS, '-key', key, '-subj', escaped(subject)];
      await execute(['openssl', 'req', ...self, '-out', new_cert]);
      renameSync(new_cert, cert);
    }
  } finally {
    for (const file of [new_key, new_cert]) rmSync(file, { force: true });
  }
  return { key, cert };
}

function linkUnlessThere(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code !== 'EEXIST') throw err;
  }
}

/** RSA, 2048 bits, in the form that bundlers of 2011 read. */
const newKey = async (): Promise<string> => {
  const { privateKey } = await promisify(generateKeyPair)('rsa', { modulusLength: 2048 });
  return privateKey.export({ type: 'pkcs1', format: 'pem' }).toString();
};

/** + joins two parts of a name in openssl's form of a subject. */
const escaped = (subject: string): string => subject.replaceAll('+', '\\+');
