import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import type { Counts, FileCounts } from './test_counts.ts';

/**
 * Runs the suites that the command line names, and last prints `N passed, N failed` over all of them:
 *
 *     node dist/scripts/test.js unit integration [part of a file's path]...
 *
 * Unit tests share one process, as no state may live in a module. The others have a process for each file, one file
 * after the other, since they start real programs. Files are those of test/, so a deleted test's output is not run.
 *
 * Suites with real guests take turns, and so do those without; one of each kind runs at a time, on two processors. Each
 * suite's output is printed when it has ended. Of few failures, the files run once more at the end, with the machine to
 * themselves, and what failed at first is named: docs/decisions/0013-a-second-run-alone.md.
 */
const SUITES = {
  unit: { guests: false, minutes: 5 },
  integration: { guests: false, minutes: 40 },
  chaos: { guests: false, minutes: 30 },
  network: { guests: true, minutes: 60 },
  volume: { guests: true, minutes: 40 },
  guest: { guests: true, minutes: 40 },
}; // minutes it may take before it is killed
type Suite = keyof typeof SUITES;
const MINUTES_PER_FILE = 15;
/** Files; of more, the reason is not a busy machine. */
const SECOND_RUNS = 3;

const root = join(import.meta.dirname, '..', '..');
const compiled = (name: string): string => join(root, 'dist', 'scripts', `${name}.js`);

function testFiles(suite: Suite, parts: readonly string[]): string[] {
  const folder = join(root, 'test', suite);
  if (!existsSync(folder)) return [];
  return (readdirSync(folder, { recursive: true }) as string[])
    .filter((name) => name.endsWith('.test.ts') && (parts.length === 0 || parts.some((part) => name.includes(part))))
    .sort()
    .map((name) => join(root, 'dist', 'test', suite, name.replace(/ts$/, 'js')));
}

async function runSuite(suite: Suite, files: readonly string[]): Promise<FileCounts> {
  const folder = mkdtempSync(join(tmpdir(), 'nova-counts-'));
  const counts_file = join(folder, 'counts.json');
  const output_file = join(folder, 'output');
  const reporters = [
    ...['--test-reporter=spec', '--test-reporter-destination=stdout'],
    ...[`--test-reporter=${compiled('test_counts')}`, `--test-reporter-destination=${counts_file}`],
  ];
  const how =
    suite === 'unit'
      ? [compiled('test_one_process')]
      : ['--test', '--test-concurrency=1', `--test-timeout=${MINUTES_PER_FILE * 60_000}`];
  try {
    // A group of its own, so that a suite that is out of time goes with all its files' processes.
    const output = openSync(output_file, 'a');
    const child = spawn(process.execPath, [...reporters, ...how, ...files], {
      cwd: root,
      stdio: ['ignore', output, output],
      detached: true,
    });
    closeSync(output);
    const kill = () => process.kill(-(child.pid as number), 'SIGKILL');
    process.once('exit', kill);
    const { minutes } = SUITES[suite];
    const timer = setTimeout(() => {
      console.log(`${suite}: killed after ${minutes} minutes`);
      kill();
    }, minutes * 60_000);
    const [code] = (await once(child, 'exit')) as [number | null];
    clearTimeout(timer);
    process.off('exit', kill);
    console.log(`\n${suite}: ${files.length} files of ${relative(process.cwd(), join(root, 'test', suite))}`);
    console.log(readFileSync(output_file, 'utf8'));
    const counts = existsSync(counts_file) ? readCounts(counts_file) : {};
    // A runner that fails with no failed test has lost one: it was killed, or a file could not be loaded.
    return code !== 0 && sum(Object.values(counts)).failed === 0
      ? { ...counts, [suite]: { passed: 0, failed: 1, skipped: 0 } }
      : counts;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The file is empty when the runner was killed. */
function readCounts(file: string): FileCounts {
  const text = readFileSync(file, 'utf8');
  return text === '' ? {} : (JSON.parse(text) as FileCounts);
}

function sum(counts: readonly Counts[]): Counts {
  const total: Counts = { passed: 0, failed: 0, skipped: 0 };
  for (const { passed, failed, skipped } of counts) {
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
  }
  return total;
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

const results: Partial<Record<Suite, FileCounts>> = {};
async function runInTurn(some: readonly Suite[]): Promise<void> {
  for (const suite of some) {
    const files = testFiles(suite, parts);
    if (files.length === 0) continue;
    console.log(`${suite}: started`);
    results[suite] = await runSuite(suite, files);
  }
}
await Promise.all([true, false].map((guests) => runInTurn(suites.filter((suite) => SUITES[suite].guests === guests))));

const failedOf = (suite: Suite): string[] =>
  Object.entries(results[suite] ?? {}).flatMap(([file, { failed }]) => (failed > 0 ? file : []));
if (suites.flatMap(failedOf).length <= SECOND_RUNS)
  for (const suite of suites) {
    const files = testFiles(suite, parts).filter((file) => failedOf(suite).includes(file));
    if (files.length === 0) continue;
    console.log(`FAILED AT FIRST, running once more alone: ${files.map((file) => relative(root, file)).join(', ')}`);
    results[suite] = { ...results[suite], ...(await runSuite(suite, files)) };
  }
const total = sum(Object.values(results).flatMap((files) => Object.values(files)));
const none = total.passed + total.failed + total.skipped === 0;
if (none) console.log('no test ran');
console.log(`\n${total.passed} passed, ${total.failed} failed${total.skipped ? `, ${total.skipped} skipped` : ''}`);
process.exitCode = total.failed > 0 || none ? 1 : 0;
