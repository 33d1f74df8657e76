import { InvalidInput } from '../../common/errors.ts';
import { LARGEST_ID } from './ids.ts';
import { int, optional, str } from './params.ts';

/** Parameters of an action whose answer comes in pages. A token says which id the page before ended with. */
export const pagingParams = {
  MaxResults: optional(int({ min: 1, max: 1000 })),
  NextToken: optional(str({ max: 64 })),
};
export interface Paging {
  readonly MaxResults: number | undefined;
  readonly NextToken: string | undefined;
}

const tokenAfter = (id: number): string => Buffer.from(`after ${id}`).toString('base64url');

/** The id that the page before ended with; 0 for the first page. @throws InvalidInput */
export function afterId({ NextToken }: Paging): number {
  if (NextToken === undefined) return 0;
  const [, id] = /^after (\d{1,10})$/.exec(Buffer.from(NextToken, 'base64url').toString()) ?? [];
  if (id === undefined || Number(id) > LARGEST_ID)
    throw new InvalidInput(`NextToken '${NextToken}' is none that this server gave`);
  return Number(id);
}

/** Cuts items, sorted by id and all after the page before, to a page. */
export function cutPage<T extends { id: number }>(items: readonly T[], { MaxResults }: Paging) {
  const page = MaxResults === undefined ? items : items.slice(0, MaxResults);
  const last = page.at(-1);
  return { page, nextToken: last && page.length < items.length ? tokenAfter(last.id) : undefined };
}
