import { computedString, type FlagDef } from '../define.ts';

/** A path that Nova worked out from where its source lay; `../` is the folder that holds the nova package. */
export const beside = (path: string, help: string): FlagDef<string> =>
  computedString(`${path} in Nova's package`, () => path, help);
