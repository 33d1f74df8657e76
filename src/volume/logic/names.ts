/** `volume-%08x` and 10 make `volume-0000000a`; the flag's form allows one %x or %d, perhaps padded. */
const PLACE = /%(0(\d))?([xd])/;

export const nameOf = (template: string, id: number): string =>
  template.replace(PLACE, (_all, _pad, width: string | undefined, base: string) =>
    id.toString(base === 'x' ? 16 : 10).padStart(Number(width ?? 0), '0'),
  );

/** The id whose name this is; undefined when the template makes no such name. */
export function idOfName(template: string, name: string): number | undefined {
  const place = PLACE.exec(template);
  if (!place) return undefined;
  const before = template.slice(0, place.index);
  const after = template.slice(place.index + place[0].length);
  if (!name.startsWith(before) || !name.endsWith(after) || name.length < before.length + after.length) return undefined;
  const digits = name.slice(before.length, name.length - after.length);
  if (!(place[3] === 'x' ? /^[0-9a-f]+$/ : /^[0-9]+$/).test(digits)) return undefined;
  const id = Number.parseInt(digits, place[3] === 'x' ? 16 : 10);
  return nameOf(template, id) === name ? id : undefined;
}
