import { z } from 'zod';
import { InvalidInput } from '../common/errors.ts';
import { UnsupportedMediaType } from './body.ts';

/** Deeper than any request of this API, shallower than any stack. */
const DEEPEST = 32;

/** @returns undefined for no body. @throws UnsupportedMediaType, InvalidInput */
export function parseJson(bytes: Buffer, content_type: string | undefined): unknown {
  if (bytes.length === 0) return undefined;
  const type = content_type?.split(';')[0]?.trim().toLowerCase() ?? 'application/json';
  if (!/^application\/(.+\+)?json$/.test(type))
    throw new UnsupportedMediaType(`the body is ${type.slice(0, 80)}; send JSON, with Content-Type: application/json`);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new InvalidInput('the body is not valid UTF-8');
  }
  if (text.trim() === '') return undefined;
  if (nesting(text) > DEEPEST) throw new InvalidInput(`the body is nested deeper than ${DEEPEST} levels`);
  if (/(^|[^\\])(\\\\)*\\u0000/.test(text))
    throw new InvalidInput('the body has a NUL character, which no text here may');
  try {
    return JSON.parse(text, refuseProto);
  } catch (err) {
    if (err instanceof InvalidInput) throw err;
    throw new InvalidInput(`the body is not valid JSON: ${err instanceof Error ? err.message.slice(0, 200) : ''}`);
  }
}

/** No object keeps it as it keeps other keys: it would be gone without a word. @throws InvalidInput */
function refuseProto(key: string, value: unknown): unknown {
  if (key === '__proto__') throw new InvalidInput('the body has the key __proto__, which nothing here may have');
  return value;
}

/** Brackets open at once, those in strings aside; of something that may not be JSON. */
function nesting(text: string): number {
  let depth = 0;
  let deepest = 0;
  let in_string = false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (in_string) {
      if (c === 92)
        i++; // backslash: the next is not the end
      else if (c === 34) in_string = false;
    } else if (c === 34) in_string = true;
    else if (c === 123 || c === 91) deepest = Math.max(deepest, ++depth);
    else if (c === 125 || c === 93) depth--;
  }
  return deepest;
}

/** As a number, or as text, in which clients of 2011 send sizes; nothing else that JavaScript would make a number of. */
export const Whole = z.unknown().transform((given, issue): number => {
  if (Number.isSafeInteger(given)) return given as number;
  if (typeof given === 'string' && /^-?\d{1,9}$/.test(given)) return Number(given);
  issue.addIssue({ code: 'custom', message: 'is not a whole number' });
  return z.NEVER;
});

/** true and false in the ways in which clients write them. */
export const Truth = z.union(
  [z.boolean(), z.number().transform((n) => n !== 0), z.stringbool()],
  'is not true or false',
);

/** What another server of this API could do and this one cannot: refused when asked for, rather than left out in silence. */
export const NotOffered = z
  .unknown()
  .refine((given) => !asksFor(given), 'is not offered; leave it out')
  .optional();

/** Clients send what was not asked of them as null, as nothing, or as no. */
export const asksFor = (value: unknown): boolean =>
  !(value == null || value === '' || value === false || value === 'False' || value === 'false') &&
  !(typeof value === 'object' && Object.keys(value).length === 0);

const TOLD_ISSUES = 3;

/** @throws InvalidInput that names the places and what is wrong with them */
export function check<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issues = result.error.issues.slice(0, TOLD_ISSUES).map(({ path, message }) => {
    const place = path.map(String).join('.').slice(0, 100);
    return place === '' ? message : `${place}: ${message}`;
  });
  const more = result.error.issues.length - issues.length;
  throw new InvalidInput(`${issues.join('; ')}${more > 0 ? `; and ${more} more` : ''}`);
}
