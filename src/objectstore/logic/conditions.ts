/** The four conditions of a request, as its headers say them. */
export interface Conditions {
  if_match?: string | undefined;
  if_none_match?: string | undefined;
  if_modified_since?: string | undefined;
  if_unmodified_since?: string | undefined;
}
export interface Version {
  /** Without quotes. */
  etag: string;
  modified: Date;
}

const names = (list: string, etag: string): boolean =>
  list.split(',').some((item) => {
    const name = item
      .trim()
      .replace(/^W\//, '')
      .replace(/^"(.*)"$/, '$1');
    return name === '*' || name === etag;
  });

/** HTTP dates have whole seconds. An unreadable date is no condition. */
const isAfter = (modified: Date, header: string): boolean | null => {
  const limit = Date.parse(header);
  return Number.isNaN(limit) ? null : Math.floor(modified.getTime() / 1000) * 1000 > limit;
};

/** In RFC 9110's order: an etag decides before a date. `version` is null when there is no object. */
export function checkConditions(c: Conditions | null, version: Version | null): 'ok' | 'not_modified' | 'failed' {
  if (c === null) return 'ok';
  if (c.if_match !== undefined) {
    if (version === null || !names(c.if_match, version.etag)) return 'failed';
  } else if (c.if_unmodified_since !== undefined && version !== null) {
    if (isAfter(version.modified, c.if_unmodified_since) === true) return 'failed';
  }
  if (c.if_none_match !== undefined) {
    if (version !== null && names(c.if_none_match, version.etag)) return 'not_modified';
  } else if (c.if_modified_since !== undefined && version !== null) {
    if (isAfter(version.modified, c.if_modified_since) === false) return 'not_modified';
  }
  return 'ok';
}
