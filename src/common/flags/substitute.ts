import { BadValue } from './convert.ts';

/**
 * Replaces `$name` and `${name}` by what `lookup` says; `$$` is a dollar. Source: Python's string.Template, which
 * Nova 2011.2 nova/flags.py applies to string flags each time they are read.
 * @throws BadValue on a dollar that begins neither; whatever `lookup` throws
 */
export function substitute(text: string, lookup: (name: string) => string): string {
  if (!text.includes('$')) return text;
  return text.replace(/\$(?:(\$)|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})?/g, (_, dollar, name, braced) => {
    if (dollar !== undefined) return '$';
    const wanted = (name ?? braced) as string | undefined;
    if (wanted === undefined) throw new BadValue('a $ without a flag name behind it; a literal dollar is $$');
    return lookup(wanted);
  });
}
