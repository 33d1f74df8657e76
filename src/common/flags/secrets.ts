import type { FlagDef } from './define.ts';

const SECRET_NAME = /password$|secret|encryption_key$|access_key$|privatekey$/;

/** A value in one line, as it would be written behind `--flag=`. */
export const asText = (value: unknown): string =>
  (Array.isArray(value) ? value.join(',') : String(value ?? '')).replaceAll('\n', '\\n');

/** A flag's value as text to show: passwords and keys as ***, in a URL only the password. */
export function shown(name: string, def: FlagDef<unknown>, value: unknown): string {
  const text = asText(value);
  if (def.kind === 'string' && text !== '' && SECRET_NAME.test(name)) return '***';
  return text.replace(/(:\/\/[^:/@\s]*:)[^/\s]*@/g, '$1***@');
}
