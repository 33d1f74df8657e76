import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sleep } from '../src/common/clock.ts';
import { flagFileText, type FlagFile } from '../test/rigs/daemon.ts';
import { freePort } from '../test/rigs/free_port.ts';
import { Program } from '../test/rigs/program.ts';
import { startRabbitmq } from '../test/rigs/rabbitmq.ts';
import { atEnd, projectRoot, tempDir, type Scope } from '../test/rigs/tmp.ts';
import type { Bench } from './bench.ts';
import { cloudFlags, startCloud } from './cloud.ts';
import { figure, interleaved } from './figure.ts';
import { seedCloud, seedProject } from './seed.ts';

const BARE_SERVER = join(import.meta.dirname, 'workers', 'bare_server.js');
const APART = ['nova-objectstore', 'nova-network', 'nova-compute', 'nova-volume', 'nova-scheduler', 'nova-api'];

/** From the start of a process to its first answer over HTTP, beside a bare node:http server. */
export const start: Bench = {
  name: 'start',
  async *run(scope, { quick }) {
    const dir = tempDir(scope, 'start');
    const flags = await cloudFlags(`sqlite:///${dir}/nova.sqlite`);
    const flagfile = join(dir, 'nova.flags');
    writeFileSync(flagfile, flagFileText({ ...flags, state_path: dir }));
    const bare_port = await freePort();
    for (const binary of ['nova-api', 'nova-all']) {
      const ours = [join(projectRoot(), 'bin', binary), `--flagfile=${flagfile}`];
      const log = join(dir, `${binary}.log`);
      await firstAnswer(ours, flags.osapi_listen_port, log); // makes the tables
      const measured = await interleaved(
        quick ? 3 : 7,
        () => firstAnswer(ours, flags.osapi_listen_port, log),
        () => firstAnswer([BARE_SERVER, String(bare_port)], bare_port, join(dir, 'bare.log')),
      );
      yield figure(`start of ${binary} to its first answer`, 'ms', measured, { of: 'value', at_most: 500 });
    }
  },
};

/** Starts node with `argv`, waits for an HTTP answer on the port and ends it. @returns milliseconds */
async function firstAnswer(argv: readonly string[], port: number, log: string): Promise<number> {
  const program = new Program({ name: argv[0] ?? '', argv: [process.execPath, ...argv], log });
  const begin = performance.now();
  let took = 0;
  await program.start(async () => true);
  try {
    while (took === 0) {
      if (await answers(port)) took = performance.now() - begin;
      else if (!program.running || performance.now() - begin > 30_000)
        throw new Error(`${argv[0]} does not answer: ${readFileSync(log, 'utf8').slice(-2000)}`);
      else await sleep(2);
    }
  } finally {
    await program.stop('SIGTERM', 35_000);
  }
  return took;
}

const answers = (port: number): Promise<boolean> =>
  fetch(`http://127.0.0.1:${port}/`, { headers: { Connection: 'close' } }).then(
    (answer) => answer.text().then(() => true),
    () => false,
  );

/** What the daemons have in memory when they rest after a boot, each set of them as if nothing else ran on the machine. */
export const memory: Bench = {
  name: 'memory',
  async *run(scope, { quick }) {
    const { flags } = await startRabbitmq(scope);
    const apart = await bootedCloud(scope, APART, { fake_rabbit: false, ...flags });
    const all = await bootedCloud(scope, ['nova-all'], {});
    const bare: number[] = [];
    for (const _ of APART) bare.push(await bareServer(scope));
    await sleep(quick ? 15_000 : REST_MS);
    yield figure(
      `memory of ${APART.length} daemons`,
      'MB',
      { value: memoryOf(apart), limit: memoryOf(bare) },
      { of: 'value', at_most: 160 },
    );
    yield figure(
      'memory of nova-all',
      'MB',
      { value: memoryOf(all), limit: memoryOf(bare.slice(0, 1)) },
      { of: 'value', at_most: 90 },
    );
  },
};

/** V8 gives memory back some ten seconds after it was last needed. */
const REST_MS = 30_000;

/** @returns pids of daemons that have booted an instance together */
async function bootedCloud(scope: Scope, daemons: readonly string[], flags: FlagFile): Promise<number[]> {
  const cloud = await startCloud(scope, {
    daemons,
    flags,
    async seed(db) {
      await seedCloud(db);
      await seedProject(db, 'apollo');
    },
  });
  const ask = cloud.ec2('apollo', 'RunInstances', { ImageId: 'ami-00000001', InstanceType: 'm1.tiny' });
  const answer = await fetch(ask.origin + ask.path);
  if (!answer.ok) throw new Error(`RunInstances: ${answer.status} ${await answer.text()}`);
  return cloud.daemons.map(({ pid }) => pid);
}

async function bareServer(scope: Scope): Promise<number> {
  const port = await freePort();
  const log = join(tempDir(scope, 'bare'), 'bare.log');
  const program = new Program({ name: 'bare server', argv: [process.execPath, BARE_SERVER, String(port)], log });
  atEnd(scope, () => program.kill());
  await program.start(() => answers(port));
  return program.pid;
}

/**
 * @returns MB: what each process has for itself, and what files map into them once over all of them. That is the PSS of a
 * machine where nothing else runs; the kernel's own would be less beside other people's Node processes.
 */
function memoryOf(pids: readonly number[]): number {
  let own_kb = 0;
  const shared_kb = new Map<string, number>();
  for (const mapping of pids.flatMap(mappingsOf)) {
    const { file, rss, dirty } = mapping;
    own_kb += file === undefined ? rss : dirty;
    if (file !== undefined) shared_kb.set(file, Math.max(shared_kb.get(file) ?? 0, rss - dirty));
  }
  return [...shared_kb.values()].reduce((sum, kb) => sum + kb, own_kb) / 1024;
}

interface Mapping {
  /** With the place in it; undefined: memory that is no file's. */
  file: string | undefined;
  rss: number;
  dirty: number;
}

function mappingsOf(pid: number): Mapping[] {
  const mappings: Mapping[] = [];
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'utf8').split('\n')) {
    const [, offset, inode, path] = /^[0-9a-f]+-[0-9a-f]+ \S+ ([0-9a-f]+) \S+ (\d+) *(.*)$/.exec(line) ?? [];
    if (offset !== undefined)
      mappings.push({ file: inode === '0' ? undefined : `${path} ${offset}`, rss: 0, dirty: 0 });
    const [, name, kb] = /^(Rss|Private_Dirty): +(\d+) kB$/.exec(line) ?? [];
    const last = mappings.at(-1);
    if (name !== undefined && last) last[name === 'Rss' ? 'rss' : 'dirty'] = Number(kb);
  }
  return mappings;
}
