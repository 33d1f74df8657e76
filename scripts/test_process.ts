import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Counts } from './test_counts.ts';

const root = join(import.meta.dirname, '..', '..');
const compiled = (name: string): string => join(root, 'dist', 'scripts', `${name}.js`);

/**
 * Runs test files in a process of their own, all in the same one, and prints what it said when it has ended.
 * @param name what to call it in the output
 * @param minutes it is killed after these, with whatever it started in its process group
 */
export async function runTests(name: string, files: readonly string[], minutes: number): Promise<Counts> {
  const folder = mkdtempSync(join(tmpdir(), 'nova-tests-'));
  const counts_file = join(folder, 'counts.json');
  const output_file = join(folder, 'output');
  const reporters = [
    ...[`--test-reporter=${compiled('test_spec')}`, '--test-reporter-destination=stdout'],
    ...[`--test-reporter=${compiled('test_counts')}`, `--test-reporter-destination=${counts_file}`],
  ];
  const started = performance.now();
  try {
    const output = openSync(output_file, 'a');
    const child = spawn(process.execPath, [...reporters, compiled('test_one_process'), ...files], {
      cwd: root,
      stdio: ['ignore', output, output],
      detached: true,
    });
    closeSync(output);
    const kill = () => process.kill(-(child.pid as number), 'SIGKILL');
    process.once('exit', kill);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      kill();
    }, minutes * 60_000);
    const [code] = (await once(child, 'exit')) as [number | null];
    clearTimeout(timer);
    process.off('exit', kill);
    const seconds = Math.round((performance.now() - started) / 1000);
    console.log(`\n${name} (${seconds} s)\n${readFileSync(output_file, 'utf8').trimEnd()}`);
    const counts = late ? undefined : readCounts(counts_file);
    if (counts !== undefined && (code === 0 || counts.failed > 0)) return counts;
    const why = late ? `killed after ${minutes} minutes` : `ended with ${code ?? 'a signal'} and no failed test`;
    return { passed: 0, skipped: 0, ...counts, failed: 1, failures: [`${name}: ${why}`] };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Of a process that was killed the file is empty, or was not made. */
function readCounts(file: string): Counts | undefined {
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
  return text === '' ? undefined : (JSON.parse(text) as Counts);
}
