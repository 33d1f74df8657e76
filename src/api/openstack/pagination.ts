import { defineFlags, integer } from '../../common/flags.ts';
import { InvalidInput } from '../../common/errors.ts';
import type { Urls } from './urls.ts';

export const paginationFlags = defineFlags({
  osapi_max_limit: integer(1000, 'Things that one answer of the OpenStack API lists at most', { min: 1 }),
});

/** Numbers in URLs: what a column of the database can hold. */
export const LARGEST_ID = 2 ** 31 - 1;

export interface Page {
  /** At most this many. */
  limit: number;
  /** The last one that the client has seen, as it wrote it. */
  marker: string | undefined;
}

/** `limit` and `marker`; a limit of 0, none or one above `most` means `most`. @throws InvalidInput */
export function pageOf(query: URLSearchParams, most: number): Page {
  const limit = wholeNumber(query, 'limit') ?? 0;
  return { limit: limit === 0 ? most : Math.min(limit, most), marker: query.get('marker') ?? undefined };
}

/** 1.0 counts what the client has seen. @throws InvalidInput */
export function cutByOffset<T>(all: readonly T[], query: URLSearchParams, most: number): T[] {
  const offset = wholeNumber(query, 'offset') ?? 0;
  return all.slice(offset, offset + pageOf(query, most).limit);
}

/** A part of a list. */
export interface Listed<T> {
  page: T[];
  /** There are others after it. */
  more: boolean;
}

/** Of one more than the limit, where there is one: that it is there tells that the list goes on. */
export const firstOf = <T>(found: readonly T[], limit: number): Listed<T> => ({
  page: found.slice(0, limit),
  more: found.length > limit,
});

/** A page of what is in memory already, in the order it has. @throws InvalidInput when the marker is not in it */
export function cutPage<T extends { id: number }>(all: readonly T[], { limit, marker }: Page): Listed<T> {
  if (marker === undefined) return firstOf(all, limit);
  const at = all.findIndex(({ id }) => String(id) === marker);
  if (at < 0) throw unknownMarker(marker);
  return firstOf(all.slice(at + 1), limit);
}

/**
 * A page of `collection` as clients read it: with `servers_links` where the list goes on, which they follow; without, they
 * take the page for all there is.
 */
export function viewPage<T>(
  collection: string,
  { page, more }: Listed<T>,
  { query, urls }: { query: URLSearchParams; urls: Urls },
  of: { key: (one: T) => number | string; views: (page: readonly T[]) => object[] },
): object {
  const last = page.at(-1);
  if (!more || last === undefined) return { [collection]: of.views(page) };
  const href = `${urls.here}?${afterMarker(query, of.key(last))}`;
  return { [collection]: of.views(page), [`${collection}_links`]: [{ rel: 'next', href }] };
}

/** Most things' markers. */
export const idOf = ({ id }: { id: number }): number => id;

/** The same query for what comes after. */
export function afterMarker(query: URLSearchParams, marker: number | string): string {
  const next = new URLSearchParams(query);
  next.set('marker', String(marker));
  return next.toString();
}

export const unknownMarker = (marker: string): InvalidInput =>
  new InvalidInput(`marker ${marker.slice(0, 80)}: no such thing is listed; it is the id of the last one seen`);

/** @throws InvalidInput */
export function wholeNumber(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  if (!/^\d{1,15}$/.test(text)) throw new InvalidInput(`${name} is ${text.slice(0, 80)}; it is a number from 0 up`);
  return Number(text);
}

/** Clients write `True`, `1` and more. */
export const isTrue = (text: string): boolean => /^(1|t|true|y|yes|on)$/i.test(text);

/** `changes-since` as the database writes times. @throws InvalidInput */
export function changesSince(query: URLSearchParams): string | undefined {
  const text = query.get('changes-since');
  if (text === null) return undefined;
  const iso = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:?\d\d)?$/.exec(text);
  const time = new Date(iso === null ? Number.NaN : iso[2] === undefined ? `${text}Z` : text);
  if (Number.isNaN(time.getTime()))
    throw new InvalidInput(`changes-since is ${text.slice(0, 80)}; it is a time such as 2011-09-22T12:00:00Z`);
  return time.toISOString();
}

/** An id of a URL or reference as a number. @returns undefined when it is none */
export const idNumber = (text: string): number | undefined => {
  const id = /^\d{1,10}$/.test(text) ? Number(text) : 0;
  return id >= 1 && id <= LARGEST_ID ? id : undefined;
};
