import { allServices } from '../common/db/services.ts';
import { HostNotFound } from '../common/errors.ts';
import type { Manage } from './noun.ts';

/** A host has services, or had them when what is listed came to lie there. @throws HostNotFound */
export async function checkHost(m: Manage, host: string, listed: readonly { host: string | null }[]): Promise<void> {
  const known = [...listed, ...(await allServices(m.db))].some((one) => one.host === host);
  if (!known) throw new HostNotFound(`there is no host ${host}: see nova-manage service list`);
}
