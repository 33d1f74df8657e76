/** Something of a host or of the database that is not as it should be; all parts are words for an operator. */
export interface Difference {
  /** What it is about: `bridge br100`. */
  what: string;
  expected: string;
  found: string;
  /** What a repair does about it, as `makes it`; null: nothing, and `advice` says what a person does. */
  repair: string | null;
  advice?: string;
}

/** Where both the daemon and a second look may be in the midst of a change, two that say the same are one. */
export const differenceKey = ({ what, expected, found }: Difference): string => JSON.stringify([what, expected, found]);
