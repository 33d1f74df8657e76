import type { RequestContext } from '../../common/context.ts';
import { isTrue } from './pagination.ts';
import type { OsRequest } from './route.ts';

/** `?all_tenants` alone is a yes. */
export const isEverywhere = (given: string | null): boolean => given === '' || (given !== null && isTrue(given));

/**
 * As whom a list is read. In 2011 an administrator's was of all projects; today's clients look a name up in the list, and
 * `delete NAME` must not find another project's: there it is of all when asked for.
 */
export function readerOf({ ctx, query, urls }: OsRequest): RequestContext {
  const given = query.get('all_tenants');
  const everywhere = given === null ? urls.version !== 'v2' : isEverywhere(given);
  return everywhere ? ctx : { ...ctx, is_admin: false };
}
