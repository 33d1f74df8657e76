/** What is being made has this after its name, until it is whole. */
const SUFFIX = '.new';

/** Parts the names at a store; what is half made is given by the name that it is to have. */
export const parted = (names: readonly string[]): { whole: string[]; half_made: string[] } => ({
  whole: names.filter((name) => !name.endsWith(SUFFIX)).sort(),
  half_made: names.flatMap((name) => (name.endsWith(SUFFIX) ? [name.slice(0, -SUFFIX.length)] : [])).sort(),
});
