import type { NovaDb } from '../common/db/connect.ts';
import type { Difference } from '../common/difference.ts';
import type { Flags } from '../common/flags.ts';
import { silentLog, type Log } from '../common/log.ts';
import { onOff, verb, type Manage, type Verb } from './noun.ts';

/** What looks, and what puts right; both may be run twice. */
export interface Doctor {
  lookTwice(deps: DoctorDeps): Promise<Difference[]>;
  /** What is no difference, but good to know beside them. */
  note?(deps: DoctorDeps): Promise<string | null>;
  /** @returns what could not be put right, in words */
  repair(deps: DoctorDeps): Promise<string[]>;
}
interface DoctorDeps {
  db: NovaDb;
  flags: Flags;
  log: Log;
}

/** `nova-manage NOUN doctor [--apply]`: 0 when nothing differs, else 1. */
export const doctorVerb = (words: { summary: string; details: string }, { lookTwice, note, repair }: Doctor): Verb =>
  verb({
    ...words,
    args: { apply: onOff('Put it right, and look again') },
    run: async (m, { apply }) => {
      const deps = { ...m, log: silentLog };
      const known = (await note?.(deps)) ?? null;
      if (known !== null) m.out(known);
      const found = await lookTwice(deps);
      tell(m, found);
      if (found.length === 0) m.out('nothing differs');
      if (found.length === 0 || !apply) return found.length === 0 ? 0 : 1;
      for (const failure of await repair(deps)) m.warn(failure);
      const left = await lookTwice(deps);
      m.out(left.length === 0 ? 'put right: nothing differs any more' : `${left.length} differences are left:`);
      tell(m, left);
      return left.length === 0 ? 0 : 1;
    },
  });

function tell(m: Manage, differences: readonly Difference[]): void {
  for (const { what, expected, found, repair, advice } of differences) {
    m.out(`${what}\n    expected: ${expected}\n    found:    ${found}`);
    m.out(repair === null ? `    to do:    ${advice ?? 'by hand'}` : `    --apply:  ${repair}`);
  }
}
