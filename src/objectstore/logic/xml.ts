/** What the small writer turns into elements: text, nested elements, or a list of the same element. */
export type XmlValue = string | number | boolean | XmlElements | readonly XmlElements[] | readonly string[];
export interface XmlElements {
  readonly [name: string]: XmlValue | null | undefined;
}

const PROLOG = '<?xml version="1.0" encoding="UTF-8"?>\n';
/** Source: Nova 2011.2; AWS's clients look at local names only. */
const NAMESPACE = 'http://doc.s3.amazonaws.com/2006-03-01';

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

const escape = (text: string): string =>
  text.replace(/[&<>"\u0000-\u001f]/g, (c) => ENTITIES[c] ?? `&#x${c.charCodeAt(0).toString(16)};`);

function element(name: string, value: XmlValue | null | undefined): string {
  if (value === null || value === undefined) return '';
  if (Array.isArray(value)) return (value as readonly XmlValue[]).map((item) => element(name, item)).join('');
  if (typeof value === 'object') return `<${name}>${elements(value as XmlElements)}</${name}>`;
  return `<${name}>${escape(String(value))}</${name}>`;
}

/** Elements in the order of the object; null and undefined are left out. */
export function elements(tree: XmlElements): string {
  let text = '';
  for (const name in tree) text += element(name, tree[name]);
  return text;
}

export const openDocument = (root: string): string => `${PROLOG}<${root} xmlns="${NAMESPACE}">`;

export const document = (root: string, tree: XmlElements): string => `${openDocument(root)}${elements(tree)}</${root}>`;

/** S3's errors have no namespace. */
export const errorDocument = (tree: XmlElements): string => `${PROLOG}<Error>${elements(tree)}</Error>`;
