import type { TestEvent } from 'node:test/reporters';

export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** Of each test file, by its path; a file that could not be run is one failed test of that name. */
export type FileCounts = Record<string, Counts>;

/** A reporter for node:test that prints FileCounts as JSON, and nothing else. Node asks for the default export. */
export default async function* testCounts(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const files: FileCounts = {};
  for await (const { type, data } of events) {
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    if (data.details.type === 'suite') continue;
    const counts = (files[data.file ?? data.name] ??= { passed: 0, failed: 0, skipped: 0 });
    if (data.skip !== undefined || data.todo !== undefined) counts.skipped++;
    else if (type === 'test:pass') counts.passed++;
    else counts.failed++;
  }
  yield JSON.stringify(files);
}
