import { createHmac } from 'node:crypto';
import { parseStringPromise } from 'xml2js';

/** EC2's XML as nested objects: an element once is a value, more than once an array. */
export type Xml = string | Xml[] | { [name: string]: Xml };

export interface Credentials {
  url: string;
  access: string;
  secret: string;
}

export class Ec2Error extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, message: string) {
    super(`${code}: ${message}`);
    this.status = status;
    this.code = code;
  }
}

const quote = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);

/** One request with signature version 2, as boto signs. @throws Ec2Error for an answer that is an error, TypeError when nobody answers */
export async function ec2(
  who: Credentials,
  action: string,
  params: Record<string, string | number> = {},
): Promise<Record<string, Xml>> {
  const { host, pathname } = new URL(who.url);
  const all: Record<string, string> = {
    ...Object.fromEntries(Object.entries(params).map(([name, value]) => [name, String(value)])),
    Action: action,
    AWSAccessKeyId: who.access,
    SignatureMethod: 'HmacSHA256',
    SignatureVersion: '2',
    Timestamp: new Date().toISOString().slice(0, 19) + 'Z',
    Version: '2016-11-15',
  };
  const query = Object.keys(all)
    .toSorted()
    .map((name) => `${quote(name)}=${quote(all[name] ?? '')}`)
    .join('&');
  const signature = createHmac('sha256', who.secret).update(`POST\n${host}\n${pathname}\n${query}`).digest('base64');
  const answer = await fetch(who.url, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: `${query}&Signature=${quote(signature)}`,
    signal: AbortSignal.timeout(120_000),
  });
  const text = await answer.text();
  const parsed = (await parseStringPromise(text, { explicitArray: false, explicitRoot: false })) as Record<string, Xml>;
  if (answer.ok) return parsed;
  const error = at(parsed, 'Errors', 'Error');
  throw new Ec2Error(answer.status, String(at(error, 'Code')), String(at(error, 'Message')));
}

/** Down through elements; '' where one is missing. */
export function at(xml: Xml, ...names: string[]): Xml {
  let here: Xml = xml;
  for (const name of names) here = typeof here === 'object' && !Array.isArray(here) ? (here[name] ?? '') : '';
  return here;
}

/** The `<item>`s of a set. */
export function items(xml: Xml): Xml[] {
  const item = at(xml, 'item');
  if (item === '') return [];
  return Array.isArray(item) ? item : [item];
}

/** Every instance of a DescribeInstances or RunInstances answer. */
export const instancesOf = (answer: Record<string, Xml>): Xml[] =>
  'reservationSet' in answer
    ? items(answer['reservationSet'] ?? '').flatMap((reservation) => items(at(reservation, 'instancesSet')))
    : items(answer['instancesSet'] ?? '');
