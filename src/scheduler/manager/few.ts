/** The story of every placement holds the reasons of so many other hosts. */
const REASONS_KEPT = 10;
export const few = (why: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(why).slice(0, REASONS_KEPT));
