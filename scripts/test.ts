import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Counts } from './test_counts.ts';
import { runTests } from './test_process.ts';

/**
 * Runs the suites that the command line names, and last prints `N passed, N failed` over all of them:
 *
 *     node dist/scripts/test.js unit integration [part of a file's path]...
 *
 * Unit tests share one process, as no state may live in a module. The others have a process for each file, one file
 * after the other, since they start real programs. Files are those of test/, so a deleted test's output is not run.
 *
 * Suites with real guests take turns, and so do those without; one of each kind runs at a time, on two processors. Where
 * few failed, they run once more at the end, with the machine to themselves, and what failed at first is told last:
 * docs/decisions/0013-a-second-run-alone.md.
 */
const SUITES = {
  unit: { guests: false },
  integration: { guests: false },
  chaos: { guests: false },
  network: { guests: true },
  volume: { guests: true },
  guest: { guests: true },
};
type Suite = keyof typeof SUITES;
/** Of one process. */
const MINUTES = 15;
/** Processes; of more, the reason is not a busy machine. */
const SECOND_RUNS = 3;

/** What one process runs. */
interface Run {
  suite: Suite;
  name: string;
  files: readonly string[];
}

const root = join(import.meta.dirname, '..', '..');

function runsOf(suite: Suite, parts: readonly string[]): Run[] {
  const folder = join(root, 'test', suite);
  if (!existsSync(folder)) return [];
  const files = (readdirSync(folder, { recursive: true }) as string[])
    .filter((name) => name.endsWith('.test.ts'))
    .sort()
    .map((name) => join('test', suite, name))
    .filter((file) => parts.length === 0 || parts.some((part) => file.includes(part)));
  const run = (name: string, sources: readonly string[]): Run => {
    const compiled = sources.map((file) => join(root, 'dist', file.replace(/ts$/, 'js')));
    return { suite, name, files: compiled };
  };
  if (suite !== 'unit') return files.map((file) => run(file, [file]));
  return files.length === 0 ? [] : [run(`${files.length} files of test/unit`, files)];
}

const words = process.argv.slice(2);
const isSuite = (word: string): word is Suite => Object.hasOwn(SUITES, word);
const suites = words.filter(isSuite);
const parts = words.filter((word) => !isSuite(word));
if (suites.length === 0) {
  console.error(`usage: test.js SUITE... [part of a file's path]...   suites: ${Object.keys(SUITES).join(' ')}`);
  process.exit(2);
}
process.on('SIGINT', () => process.exit(130));
process.on('SIGTERM', () => process.exit(143));

type Results = Map<Run, Counts>;
async function runInTurn(runs: readonly Run[], results: Results): Promise<void> {
  for (const run of runs) results.set(run, await runTests(run.name, run.files, MINUTES));
}
function tellFailures(heading: string, results: Results): void {
  for (const [{ name }, { failures }] of results)
    for (const failure of failures) console.log(`\n${heading}: ${name}\n${failure}`);
}

const runs = suites.flatMap((suite) => runsOf(suite, parts));
const results: Results = new Map();
const some = (guests: boolean) => runs.filter(({ suite }) => SUITES[suite].guests === guests);
await Promise.all([runInTurn(some(true), results), runInTurn(some(false), results)]);

const failed = runs.filter((run) => results.get(run)?.failed);
if (failed.length > 0 && failed.length <= SECOND_RUNS) {
  console.log(`\nonce more, alone: ${failed.map(({ name }) => name).join(', ')}`);
  const first = new Map(results);
  await runInTurn(failed, results);
  tellFailures('FAILED AT FIRST', first);
}
tellFailures('FAILED', results);

const total = { passed: 0, failed: 0, skipped: 0 };
for (const counts of results.values())
  for (const key of ['passed', 'failed', 'skipped'] as const) total[key] += counts[key];
const none = total.passed + total.failed + total.skipped === 0;
if (none) console.log('no test ran');
console.log(`\n${total.passed} passed, ${total.failed} failed${total.skipped ? `, ${total.skipped} skipped` : ''}`);
process.exitCode = total.failed > 0 || none ? 1 : 0;
