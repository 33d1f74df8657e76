import { inspect } from 'node:util';
import type { TestEvent } from 'node:test/reporters';

/** What one process of tests came to. */
export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
  /** Of each failed test its name, and below it the error. */
  failures: string[];
}

/** A reporter for node:test that prints Counts as JSON, and nothing else. Node asks for the default export. */
export default async function* testCounts(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0, failures: [] };
  for await (const { type, data } of events) {
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    if (data.details.type === 'suite') continue;
    if (data.skip !== undefined || data.todo !== undefined) counts.skipped++;
    else if (type === 'test:pass') counts.passed++;
    else {
      counts.failed++;
      counts.failures.push(`${data.name}\n${inspect(data.details.error.cause ?? data.details.error)}`);
    }
  }
  yield JSON.stringify(counts);
}
