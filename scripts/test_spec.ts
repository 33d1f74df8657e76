import { Readable } from 'node:stream';
import { spec, type TestEvent } from 'node:test/reporters';

const TOTAL = /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) [\d.]+$/;

/** Node's own reporter `spec` without its table of totals, which would come once for each file. */
export default async function* testSpec(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  yield* Readable.from(withoutTotals(events)).pipe(new spec()) as AsyncIterable<string>;
}

async function* withoutTotals(events: AsyncIterable<TestEvent>): AsyncGenerator<TestEvent> {
  for await (const event of events) {
    const { type, data } = event;
    if (!(type === 'test:diagnostic' && data.nesting === 0 && TOTAL.test(data.message))) yield event;
  }
}
