import { adminContext } from '../../../src/common/context.ts';
import type { NovaDb } from '../../../src/common/db/connect.ts';
import { Flags } from '../../../src/common/flags.ts';
import type { Noun } from '../../../src/manage/noun.ts';

/** Runs a verb (or the noun itself) on a database of the test's. @returns the lines it printed */
export async function run(
  db: NovaDb,
  noun: Noun,
  verb: string | null,
  args: Record<string, unknown> = {},
  flags: Record<string, unknown> = {},
): Promise<string[]> {
  const lines: string[] = [];
  const out = (line: string) => void lines.push(...line.split('\n'));
  const bus = () => Promise.reject(new Error('this verb needs no bus'));
  const which = verb === null ? noun.itself : noun.verbs[verb];
  await which?.run({ db, flags: Flags.of(flags), ctx: adminContext(), bus, out, warn: out }, args);
  return lines;
}
