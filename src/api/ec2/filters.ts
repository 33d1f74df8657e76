import { InvalidInput } from '../../common/errors.ts';
import { list, str, struct, type Param } from './params.ts';

/** `Filter.1.Name=instance-state-name&Filter.1.Value.1=running`: each filter must match, with any of its values. */
export interface Filter {
  readonly Name: string;
  readonly Value: readonly string[];
}

export const filters = (): Param<Filter[]> =>
  list(struct({ Name: str(), Value: list(str({ min: 0, max: 1024 }), { min: 1, max: 200 }) }), { max: 50 });

/** What a filter looks at: one text, or several of which any may match. */
export type Fields<T> = Readonly<Record<string, (item: T) => string | number | boolean | null | readonly string[]>>;

/** `tagsOf` serves `tag:KEY` and `tag-key`. @throws InvalidInput naming an unknown filter and those that there are */
export function matcher<T>(
  given: readonly Filter[],
  fields: Fields<T>,
  tagsOf: (item: T) => Readonly<Record<string, string>> = () => ({}),
): (item: T) => boolean {
  const tests = given.map(({ Name, Value }) => {
    const texts = textsOf(Name, fields, tagsOf);
    return (item: T) => texts(item).some((text) => Value.some((pattern) => globMatches(pattern, text)));
  });
  return (item) => tests.every((test) => test(item));
}

function textsOf<T>(
  name: string,
  fields: Fields<T>,
  tagsOf: (item: T) => Readonly<Record<string, string>>,
): (item: T) => readonly string[] {
  if (name === 'tag-key') return (item) => Object.keys(tagsOf(item));
  if (name.startsWith('tag:')) {
    const key = name.slice('tag:'.length);
    return (item) => Object.entries(tagsOf(item)).flatMap(([tag, value]) => (tag === key ? [value] : []));
  }
  const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
  if (!field) {
    throw new InvalidInput(
      `there is no filter '${name.slice(0, 80)}' here; there are ${Object.keys(fields).join(', ')}`,
    );
  }
  return (item) => {
    const value = field(item);
    if (value === null) return [];
    return typeof value === 'object' ? value : [String(value)];
  };
}

/** `*` is any text, `?` one character, a backslash takes the next character as it is. Steps: at most pattern x text. */
export function globMatches(pattern: string, text: string): boolean {
  const parts = [...pattern.matchAll(/\\([\s\S])|([\s\S])/g)].map(([, literal, char]) =>
    literal === undefined && (char === '*' || char === '?') ? { wild: char } : { char: literal ?? char },
  );
  let [p, t, star, mark] = [0, 0, -1, 0];
  while (t < text.length) {
    const part = parts[p];
    if (part?.wild === '*') [star, mark, p] = [p, t, p + 1];
    else if (part?.wild === '?' || (part !== undefined && part.char === text[t])) [p, t] = [p + 1, t + 1];
    else if (star >= 0) [p, mark, t] = [star + 1, mark + 1, mark + 1];
    else return false;
  }
  return parts.slice(p).every((part) => part.wild === '*');
}
