import { findProgram } from '../test/rigs/needs.ts';
import type { Bench } from './bench.ts';
import { startCloud } from './cloud.ts';
import { figure, interleaved } from './figure.ts';
import { startNginx } from './nginx.ts';
import { seedProject } from './seed.ts';
import type { Ask } from './workers/http_get.ts';
import { WorkerProcess } from './worker_process.ts';

const KB = 1024;
const MB = 1024 * KB;
const KINDS = [
  { size: '4 KB', body_bytes: 4 * KB, keys: 64, in_flight: 16, floors: { PUT: 0.8, GET: 0.3 } },
  { size: '64 MB', body_bytes: 64 * MB, keys: 2, in_flight: 2, floors: { PUT: 0.65, GET: 0.6 } },
] as const;

/** Objects put and got, beside nginx that serves a folder. */
export const objectstore: Bench = {
  name: 'objectstore',
  async *run(scope, { quick }) {
    const program = findProgram('nginx');
    if (program === undefined) {
      console.error('objectstore: not measured: it needs nginx, to compare with');
      return;
    }
    const cloud = await startCloud(scope, { daemons: ['nova-objectstore'], seed: (db) => seedProject(db, 'apollo') });
    const nginx = await startNginx(scope, program);
    const client = WorkerProcess.start(scope, 'http_client');
    const rounds = quick ? 3 : 5;
    await client.ask('rate', { asks: [cloud.s3('apollo', '/bench', { body_bytes: 0 })], in_flight: 1, ms: 1 });

    for (const { size, body_bytes, keys, in_flight, floors } of KINDS)
      for (const method of ['PUT', 'GET'] as const) {
        const put = method === 'PUT' ? { body_bytes } : undefined;
        const paths = Array.from({ length: keys }, (_, i) => `/bench/${body_bytes}-${i}`);
        const ours = paths.map((path) => cloud.s3('apollo', path, put));
        const theirs = paths.map((path): Ask => ({
          origin: nginx,
          path,
          headers: {},
          ...(put && { method: 'PUT', ...put }),
        }));
        const rate = (asks: Ask[]) => client.ask<number>('rate', { asks, in_flight, ms: quick ? 500 : 1000 });
        for (const asks of [ours, theirs]) await rate(asks); // warm; and all of the keys are there
        const measured = await interleaved(
          rounds,
          () => rate(ours),
          () => rate(theirs),
        );
        yield figure(`objectstore, ${method} of ${size}, ${in_flight} in flight`, '/s', measured, {
          of: 'ratio',
          at_least: floors[method],
        });
      }
  },
};
