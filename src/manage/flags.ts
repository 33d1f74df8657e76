import { errorText, FlagsError } from '../common/errors.ts';
import type { Flags } from '../common/flags.ts';
import { defaultText } from '../common/flags/help.ts';
import { loadIndex, type FlagIndex, type IndexedFlag } from '../common/flags/flag_index.ts';
import { shown } from '../common/flags/secrets.ts';
import { onOff, verb, type Noun } from './noun.ts';
import { table } from './table.ts';

export const flagsCommands: Noun = {
  name: 'flags',
  summary: 'The value of every flag, and where it was set',
  verbs: {},
  itself: verb({
    summary: 'Print every flag that some daemon reads, its value and the file and line that set it',
    args: { all: onOff('Also the flags of Nova that are accepted without effect') },
    needs_schema: false,
    may_be_first: true,
    run: async (m, { all }) => {
      const index = loadIndex();
      if (!index) throw new FlagsError('the list of flags is made by npm run build');
      const { text, bad } = flagsTable(m.flags, index, all);
      m.out(text.trimEnd());
      if (bad.length > 0) throw new FlagsError(bad.join('; '));
    },
  }),
};

/**
 * `nova-manage flags [--all]`: the effective value of every flag that some daemon reads and where it came from, then
 * those that were set although no daemon reads them; with `all`, every name that is accepted. Secrets are masked.
 * @returns the table, and one line for each value that cannot be used
 */
export function flagsTable(flags: Flags, index: FlagIndex, all = false): { text: string; bad: string[] } {
  const bad: string[] = [];
  const rows = [['flag', 'value', 'source']];
  for (const [name, flag] of Object.entries(index.flags).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const { value, source, error } = effective(flags, name, flag);
    if (error !== undefined) bad.push(error);
    if (flag.read || all || source !== 'default')
      rows.push([name, value, flag.read ? source : `${source}, without effect`]);
  }
  return { text: `${table(rows).join('\n')}\n`, bad };
}

function effective(flags: Flags, name: string, flag: IndexedFlag): { value: string; source: string; error?: string } {
  try {
    const { value, source } = flags.effective(name);
    const unknowable = source === 'default' && value === null; // worked out elsewhere, or none
    return { value: unknowable ? defaultText(flag) : shown(name, flag, value), source };
  } catch (err) {
    if (!(err instanceof FlagsError)) throw err;
    return { value: 'unusable', source: flags.source(name), error: errorText(err) };
  }
}
