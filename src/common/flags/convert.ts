import type { FlagDef } from './define.ts';

const TRUE = new Set(['true', 't', '1']);
const FALSE = new Set(['false', 'f', '0']);

/** The reason a text is no value, in words that follow `--name=text: `. */
export class BadValue extends Error {}

/** A given text as the value of a flag that is not a multistring. @throws BadValue */
export function convert(def: FlagDef<unknown>, text: string): unknown {
  switch (def.kind) {
    case 'string':
    case 'multistring':
      return text;
    case 'boolean':
      return toBoolean(text);
    case 'integer':
      return inBounds(def, toInteger(text));
    case 'float':
      return inBounds(def, toFloat(text));
    case 'list':
      return text.trim() === '' ? [] : text.split(',').map((item) => item.trim());
    case 'enum':
      if (!def.words?.includes(text)) throw new BadValue(`not one of ${def.words?.join(', ')}`);
      return text;
  }
}

/** A string with its $flags filled in. @throws BadValue */
export function inForm({ form }: FlagDef<unknown>, text: string): string {
  if (form !== undefined && !new RegExp(`^(?:${form.pattern})$`).test(text)) throw new BadValue(`not ${form.says}`);
  return text;
}

function toBoolean(text: string): boolean {
  const word = text.toLowerCase();
  if (TRUE.has(word)) return true;
  if (FALSE.has(word)) return false;
  throw new BadValue('not a boolean (true, t, 1, false, f or 0)');
}

function toInteger(text: string): number {
  if (!/^[+-]?(\d+|0[xX][0-9a-fA-F]+)$/.test(text)) throw new BadValue('not an integer');
  const value = text.startsWith('-') ? -Number(text.slice(1)) : Number(text.replace(/^\+/, ''));
  if (!Number.isSafeInteger(value)) throw new BadValue(`not an integer up to ${Number.MAX_SAFE_INTEGER}`);
  return value;
}

function toFloat(text: string): number {
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) throw new BadValue('not a number');
  return Number(text);
}

function inBounds(def: FlagDef<unknown>, value: number): number {
  if (def.min !== undefined && value < def.min) throw new BadValue(`the least is ${def.min}`);
  if (def.max !== undefined && value > def.max) throw new BadValue(`the most is ${def.max}`);
  return value;
}
