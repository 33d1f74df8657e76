import type { AnswerText } from '../body.ts';

/** What an action answers: a plain object, written as XML by the rules of `renderAnswer`. */
export type XmlValue = string | number | bigint | boolean | Date | null | undefined | readonly XmlValue[] | XmlObject;
export interface XmlObject {
  readonly [name: string]: XmlValue;
}

/**
 * An answer of the EC2 API: root `ActionResponse` in the namespace of the version that was asked for, `requestId` first.
 * Names become lowerCamelCase (`public_ip`, `PublicIp` -> `publicIp`), an array one `<item>` an entry, a Date
 * `2011-04-15T00:00:00Z`; null, '' and [] are an empty element, undefined is left out.
 */
export const renderAnswer = (action: string, version: string, request_id: string, answer: XmlObject): string =>
  wrapAnswer(action, version, request_id, renderInside(answer)) as string;

/** What stands behind the `requestId`: all of an answer that the request itself does not change. */
export const renderInside = (answer: XmlObject): string => children(answer, ec2Tag);

/** The whole answer around its inside; bytes are not copied, which takes longer than sending them. */
export function wrapAnswer(action: string, version: string, request_id: string, inside: string | Buffer): AnswerText {
  const root = `${action}Response`;
  const head = `<?xml version="1.0" ?><${root} xmlns="http://ec2.amazonaws.com/doc/${escapeXml(version)}/">`;
  const front = `${head}<requestId>${escapeXml(request_id)}</requestId>`;
  const back = `</${root}>`;
  if (typeof inside === 'string') return `${front}${inside}${back}`;
  return [front, inside, back];
}

/** An answer of STS: names as they are, the result in an element of its own. */
export function renderStsAnswer(action: string, request_id: string, answer: XmlObject): string {
  const answered = { [`${action}Result`]: answer, ResponseMetadata: { RequestId: request_id } };
  return `<?xml version="1.0" ?>${stsRoot(`${action}Response`)}${children(answered, plainTag)}</${action}Response>`;
}

export function renderError(code: string, message: string, request_id: string): string {
  const error = { Errors: { Error: { Code: code, Message: message } }, RequestID: request_id };
  return `<?xml version="1.0"?>\n<Response>${children(error, plainTag)}</Response>`;
}

export function renderStsError(code: string, message: string, request_id: string): string {
  const error = { Error: { Type: 'Sender', Code: code, Message: message }, RequestId: request_id };
  return `<?xml version="1.0"?>\n${stsRoot('ErrorResponse')}${children(error, plainTag)}</ErrorResponse>`;
}

export const STS_VERSION = '2011-06-15';
const stsRoot = (name: string): string => `<${name} xmlns="https://sts.amazonaws.com/doc/${STS_VERSION}/">`;

interface Tag {
  readonly open: string;
  readonly close: string;
  readonly empty: string;
}
type TagOf = (name: string) => Tag;

/** Tags are made once for each name: an answer has tens of thousands of them, of some hundred names. */
function tags(spell: (name: string) => string): TagOf {
  const made = new Map<string, Tag>();
  return (name) => {
    let tag = made.get(name);
    if (!tag) {
      const spelt = spell(name);
      made.set(name, (tag = { open: `<${spelt}>`, close: `</${spelt}>`, empty: `<${spelt}/>` }));
    }
    return tag;
  };
}
const plainTag = tags((name) => name);
const ec2Tag = tags((name) =>
  name.replace(/_+([a-z0-9])/gi, (_, char: string) => char.toUpperCase()).replace(/^./, (char) => char.toLowerCase()),
);

function children(object: XmlObject, tagOf: TagOf): string {
  let out = '';
  for (const name of Object.keys(object)) {
    const value = object[name];
    if (value !== undefined) out += element(tagOf(name), value, tagOf);
  }
  return out;
}

function element(tag: Tag, value: XmlValue, tagOf: TagOf): string {
  const inner = content(value, tagOf);
  return inner === '' ? tag.empty : tag.open + inner + tag.close;
}

function content(value: XmlValue, tagOf: TagOf): string {
  switch (typeof value) {
    case 'string':
      return escapeXml(value);
    case 'boolean':
    case 'bigint':
    case 'number':
      return String(value);
    case 'undefined':
      return '';
    case 'object':
      if (value === null) return '';
      if (value instanceof Date) return `${value.toISOString().slice(0, 19)}Z`;
      return isArray(value) ? items(value, tagOf) : children(value, tagOf);
  }
}
const isArray = (value: object): value is readonly XmlValue[] => Array.isArray(value);

function items(list: readonly XmlValue[], tagOf: TagOf): string {
  const tag = tagOf('item');
  let out = '';
  for (const value of list) out += element(tag, value, tagOf);
  return out;
}

// A lone half of a surrogate pair, and what XML 1.0 has no place for, even escaped; \r would come back as \n.
const SPECIAL = /[&<>"\r\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]/u;
const SPECIALS = new RegExp(SPECIAL, 'gu');
const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  '\r': '&#13;',
};

/** Text as XML 1.0 takes it, in elements and in attributes; characters that it forbids are dropped. */
export function escapeXml(text: string): string {
  return SPECIAL.test(text) ? text.replace(SPECIALS, (char) => ESCAPES[char] ?? '') : text;
}
