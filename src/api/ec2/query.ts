import { isUtf8 } from 'node:buffer';
import { MalformedQueryString } from './errors.ts';

/**
 * EC2's request: name=value pairs in the query, the form body, or both. Dots in a name build a tree:
 * `Filter.1.Name=key-name&Filter.1.Value.1=k1` is Filter -> 1 -> { Name, Value -> 1 }.
 * Trees are Maps, so that no name (`__proto__`) means anything to JavaScript.
 */
export interface ParamNode {
  value: string | undefined;
  children: Map<string, ParamNode> | undefined;
}

const MOST_PARAMS = 2000;
const LONGEST_NAME = 256;
const DEEPEST_NAME = 8;

/** @returns decoded pairs of both, flat: what a signature covers. @throws MalformedQueryString */
export function parseParams(query: string, form: Buffer): Map<string, string> {
  const params = new Map<string, string>();
  // Node hands raw bytes of a URL over as latin1.
  if (query !== '') addPairs(params, isAscii(query) ? query : textOf(Buffer.from(query, 'latin1'), 'query'));
  if (form.length > 0) addPairs(params, textOf(form, 'form'));
  return params;
}

const isAscii = (text: string): boolean => /^[ -~]*$/.test(text);

function textOf(bytes: Buffer, where: string): string {
  if (!isUtf8(bytes)) throw new MalformedQueryString(`the ${where} is not UTF-8`);
  return bytes.toString('utf8');
}

function addPairs(params: Map<string, string>, text: string): void {
  for (const pair of text.split('&', MOST_PARAMS + 1)) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const name = decode(equals < 0 ? pair : pair.slice(0, equals));
    const value = equals < 0 ? '' : decode(pair.slice(equals + 1));
    if (name === '' || name.length > LONGEST_NAME) {
      throw new MalformedQueryString(
        `a parameter name has ${name.length} characters; 1 to ${LONGEST_NAME} are allowed`,
      );
    }
    // Signed is one value for each name: which of two would count?
    if (params.has(name) && params.get(name) !== value) {
      throw new MalformedQueryString(
        `the parameter ${name} came twice; number the items of a list: ${name}.1, ${name}.2`,
      );
    }
    params.set(name, value);
  }
  if (params.size > MOST_PARAMS) throw new MalformedQueryString(`more than ${MOST_PARAMS} parameters`);
}

function decode(text: string): string {
  if (!/[%+\0]/.test(text)) return text;
  let decoded: string;
  try {
    decoded = decodeURIComponent(text.replaceAll('+', ' '));
  } catch (err) {
    throw new MalformedQueryString(`not percent-encoded UTF-8: ${text.slice(0, 80)}`, { cause: err });
  }
  // No database takes it in a text.
  if (decoded.includes('\0')) throw new MalformedQueryString(`a NUL character in: ${text.slice(0, 80)}`);
  return decoded;
}

/** The parameters as a tree. @throws MalformedQueryString when a name has more than 8 parts */
export function nest(params: ReadonlyMap<string, string>): ParamNode {
  const root: ParamNode = { value: undefined, children: undefined };
  for (const [name, value] of params) {
    const parts = name.split('.', DEEPEST_NAME + 1);
    if (parts.length > DEEPEST_NAME) {
      throw new MalformedQueryString(`the parameter name ${name} has more than ${DEEPEST_NAME} parts`);
    }
    let node = root;
    for (const part of parts) node = childOf(node, part);
    node.value = value;
  }
  return root;
}

function childOf(node: ParamNode, part: string): ParamNode {
  const children = (node.children ??= new Map<string, ParamNode>());
  let child = children.get(part);
  if (!child) children.set(part, (child = { value: undefined, children: undefined }));
  return child;
}
