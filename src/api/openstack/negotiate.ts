import { NotAcceptable } from '../http_errors.ts';

/** Paths that end in a name which people gave, and which may itself end in .json: it is never cut. */
const ENDS_IN_A_NAME = /\/(metadata|os-keypairs)\/[^/]+\/*$/;

/**
 * Takes the suffix off a path and checks that the answer may be JSON, the only form there is.
 * @throws NotAcceptable when the client takes nothing but XML. Source: Nova 2011.3 nova/wsgi.py, best_match_content_type
 */
export function acceptJson(path: string, accept: string | undefined): string {
  const suffix = ENDS_IN_A_NAME.test(path) ? null : /\.(json|xml)\/*$/.exec(path);
  if (suffix === null && accept !== undefined && onlyXml(accept)) throw refusal(`Accept: ${accept.slice(0, 100)}`);
  if (suffix?.[1] === 'xml') throw refusal('the path ends in .xml');
  return suffix === null ? path : path.slice(0, suffix.index);
}

const refusal = (why: string) =>
  new NotAcceptable(`answers are JSON only, and ${why}: send Accept: application/json, or end the path in .json`);

/** What matches neither gets JSON; only who asks for XML and excludes JSON is refused. */
function onlyXml(accept: string): boolean {
  const types = accept.split(',').map((item) => {
    const [type = '', ...parameters] = item.split(';').map((part) => part.trim().toLowerCase());
    return { type, refused: parameters.some((parameter) => /^q=0(\.0*)?$/.test(parameter)) };
  });
  const takes = (pattern: RegExp): boolean => types.some(({ type, refused }) => !refused && pattern.test(type));
  return takes(/[/+]xml$/) && !takes(/^(\*\/\*|application\/(\*|json|.+\+json))$/);
}
