import { writeFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { inScope, type Bench } from './bench.ts';
import type { Figure } from './figure.ts';
import { boots } from './boots.ts';
import { memory, start } from './daemons.ts';
import { fixedIps } from './fixed_ips.ts';
import { dhcpbridge, metadata } from './guests.ts';
import { foreignRows, http } from './http.ts';
import { objectstore } from './objectstore.ts';
import { rpc } from './rpc.ts';
import { securityRules } from './security_rules.ts';
import { table } from './table.ts';
import { volumes } from './volumes.ts';

/**
 * `npm run bench -- [--only NAME] [--quick] [--json FILE]`: every figure of docs/benchmarks.md. It exits with 1 when one
 * misses its floor or cannot be measured.
 */
const BENCHES: readonly Bench[] = [
  rpc,
  ...fixedIps,
  securityRules,
  http,
  foreignRows,
  metadata,
  dhcpbridge,
  ...boots,
  objectstore,
  volumes,
  start,
  memory,
];
const MINUTES = 15;

const { values: options } = parseArgs({
  options: { only: { type: 'string' }, quick: { type: 'boolean', default: false }, json: { type: 'string' } },
});
const chosen = BENCHES.filter((bench) => bench.name.includes(options.only ?? ''));
if (chosen.length === 0) {
  console.error(`--only=${options.only}: no such benchmark; there are ${BENCHES.map(({ name }) => name).join(', ')}`);
  process.exit(2);
}

// The rigs end what they started when this process exits.
process.on('SIGINT', () => process.exit(130));
process.on('SIGTERM', () => process.exit(143));
setTimeout(() => {
  console.error(`given up after ${MINUTES} minutes`);
  process.exit(1);
}, MINUTES * 60_000).unref();

const loads = loadavg().map((load) => load.toFixed(1));
const machine = `${availableParallelism()} processors, load average ${loads.join(' ')} before, Node ${process.version}`;
const figures: Figure[] = [];
let broken = false;
for (const bench of chosen) {
  const begin = performance.now();
  try {
    await inScope(async (scope) => {
      for await (const figure of bench.run(scope, { quick: options.quick })) figures.push(figure);
    });
  } catch (err) {
    broken = true;
    console.error(`${bench.name}: not measured:`, err);
  }
  console.error(`${bench.name}: ${((performance.now() - begin) / 1000).toFixed(0)} s`);
}
console.log(`\n${machine}\n\n${table(figures)}`);
if (options.json !== undefined) writeFileSync(options.json, JSON.stringify(figures, null, 2) + '\n');
process.exitCode = broken || figures.some(({ ok }) => ok === false) ? 1 : 0;
