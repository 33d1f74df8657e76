import assert from 'node:assert/strict';
import { clock } from '../src/common/clock.ts';
import type { RequestContext } from '../src/common/context.ts';
import { writing, type CastHint, type NovaDb } from '../src/common/db/connect.ts';
import {
  castJob,
  claimableJobs,
  claimJob,
  hasOpenJob,
  listJobs,
  purgeJobs,
  renewLeases,
  retryJob,
  settleJob,
  takeBackJobs,
  type Worker,
} from '../src/common/db/jobs.ts';
import { cast, ofInstance, rpcClient, rpcContract } from '../src/common/rpc/contract.ts';
import { MemoryBus } from '../src/common/rpc/memory_bus.ts';
import { aContext } from './builders.ts';
import { later } from './clock.ts';
import { atOnce, contractOf, succeeded, type Database } from './databases.ts';

interface GuestRpc {
  run(ctx: RequestContext, args: { instance_id: number }): Promise<void>;
}
const guests = rpcClient(
  rpcContract<GuestRpc>('guest', { run: cast('run', { resource: ofInstance }) }),
  new MemoryBus(),
);
const LEASE_S = 30;
const aWorker = (host: string, incarnation = '1'): Worker => ({
  topic: 'guest',
  host,
  owner: `guest.${host}:${incarnation}`,
  lease_s: LEASE_S,
});
/** A job for one host, or for any. @returns its id */
const ask = (db: NovaDb, host: string | null, options: { run_after_s?: number } = {}): Promise<number> =>
  writing(db, (tx) =>
    castJob(tx, aContext(), (host === null ? guests : guests.at(host)).run, { instance_id: 7 }, options),
  );
const jobOf = async (db: NovaDb, id: number) => {
  const job = (await listJobs(db, {})).find((one) => one.id === id);
  assert.ok(job, `job ${id}`);
  return job;
};
/** What holds of the job table, on every database. */
export function jobsContract(database: Database): void {
  const it = contractOf(database);

  it("a job is one worker's, however many reach for it at once", async (db, all) => {
    const id = await ask(db, null);

    const claims = await atOnce(all, 16, (on, i) => claimJob(on, aWorker(`node${i}`), id));

    const [mine, ...others] = succeeded(claims).filter((job) => job !== undefined);
    assert.equal(others.length, 0);
    const { state, attempt, lease_owner } = await jobOf(db, id);
    assert.deepEqual({ state, attempt, lease_owner }, { state: 'running', attempt: 1, lease_owner: mine?.lease_owner });
  });

  it('eight workers over the same sixty jobs run each of them once', async (db, all) => {
    const ids: number[] = [];
    for (let i = 0; i < 60; i++) ids.push(await ask(db, null));
    const ran: number[] = [];

    const work = await atOnce(all, 8, async (on, i) => {
      const worker = aWorker(`node${i}`);
      for (;;) {
        const heads = await claimableJobs(on, worker, 20);
        if (heads.length === 0) return;
        for (const { id } of heads) {
          if (!(await claimJob(on, worker, id))) continue;
          ran.push(id);
          assert.equal(await settleJob(on, worker, id, { state: 'done', error: null }), true);
        }
      }
    });

    succeeded(work);
    assert.deepEqual(
      ran.toSorted((a, b) => a - b),
      ids,
    );
  });

  it("a job of one host or topic is no other's; those for any host come oldest first", async (db) => {
    const [any, for_two, again] = [await ask(db, null), await ask(db, 'node2'), await ask(db, null)];
    const one = aWorker('node1');
    const idsFor = async (worker: Worker, limit = 10) =>
      (await claimableJobs(db, worker, limit)).map((head) => head.id);

    assert.deepEqual(await idsFor(one), [any, again]);
    assert.deepEqual(await idsFor(aWorker('node2')), [any, for_two, again]);
    assert.deepEqual(await idsFor(aWorker('node2'), 1), [any]);
    assert.deepEqual(await idsFor({ ...one, topic: 'other' }), []);
    assert.equal(await claimJob(db, one, for_two), undefined);
    assert.equal(await claimJob(db, { ...aWorker('node2'), topic: 'other' }, for_two), undefined);
  });

  it('a job waits until its time, and nobody has it before', async (db, _all, t) => {
    const id = await ask(db, null, { run_after_s: 60 });
    assert.deepEqual(await claimableJobs(db, aWorker('node1'), 10), []);
    assert.equal(await claimJob(db, aWorker('node1'), id), undefined);

    later(t, 61);

    assert.deepEqual(
      (await claimableJobs(db, aWorker('node1'), 10)).map((head) => head.id),
      [id],
    );
  });

  // ------------------------------------------------------------------ leases

  it('a lease that ran out gives the job to one other worker, and the late one can no longer end it', async (db, all, t) => {
    const id = await ask(db, null);
    const slow = aWorker('node0');
    await claimJob(db, slow, id);
    assert.equal(await claimJob(db, aWorker('node1'), id), undefined);

    later(t, LEASE_S + 1);
    const claims = await atOnce(all, 12, (on, i) => claimJob(on, aWorker(`node${i + 1}`), id));

    assert.equal(succeeded(claims).filter((job) => job !== undefined).length, 1);
    assert.equal(await settleJob(db, slow, id, { state: 'done', error: null }), false);
    const { state, attempt } = await jobOf(db, id);
    assert.deepEqual({ state, attempt }, { state: 'running', attempt: 2 });
  });

  it('a renewed lease keeps the job; those of others, and one that its worker lost sight of, are not renewed with it', async (db, _all, t) => {
    const [mine, forgotten, yours] = [await ask(db, null), await ask(db, null), await ask(db, null)];
    const [me, you] = [aWorker('node1'), aWorker('node2')];
    await claimJob(db, me, mine);
    await claimJob(db, me, forgotten);
    await claimJob(db, you, yours);

    later(t, LEASE_S - 1);
    await renewLeases(db, me, [mine, yours]);
    later(t, 2);

    assert.deepEqual(
      (await claimableJobs(db, aWorker('node3'), 10)).map((head) => head.id),
      [forgotten, yours],
    );
  });

  it("a restarted worker takes back what its former life had, at once, and nobody else's", async (db) => {
    const ids = [await ask(db, null), await ask(db, null), await ask(db, null), await ask(db, null)];
    const [was, is] = [aWorker('node1', 'before'), aWorker('node1', 'now')];
    const owners = [was, is, aWorker('node10', 'before'), { ...was, topic: 'guest', owner: 'guestbook.node1:before' }];
    for (const [i, owner] of owners.entries()) await claimJob(db, owner, ids[i] as number);

    assert.equal(await takeBackJobs(db, is), 1);

    const states = await Promise.all(ids.map(async (id) => (await jobOf(db, id)).state));
    assert.deepEqual(states, ['queued', 'running', 'running', 'running']);
    assert.equal((await claimJob(db, is, ids[0] as number))?.attempt, 2);
    assert.equal(await takeBackJobs(db, is), 0);
  });

  it('what is put back waits its time with the reason, and counts its attempts', async (db, _all, t) => {
    const id = await ask(db, null);
    const worker = aWorker('node1');
    await claimJob(db, worker, id);

    const run_after = new Date(clock.now().getTime() + 5000).toISOString();
    assert.equal(await settleJob(db, worker, id, { state: 'queued', error: 'no disk', run_after }), true);
    assert.equal(await claimJob(db, worker, id), undefined);
    later(t, 6);

    const job = await claimJob(db, worker, id);
    assert.deepEqual([job?.attempt, job?.error], [2, 'no disk']);
    assert.equal(await settleJob(db, worker, id, { state: 'failed', error: 'no disk' }), true);
    assert.equal(await settleJob(db, worker, id, { state: 'done', error: null }), false);
  });

  // -------------------------------------------------------------- the sender

  it('a job is there when its transaction is, and its message goes out after that, once', async (db, all) => {
    const heard: CastHint[][] = [];
    db.afterCommit = (hints) => void heard.push([...hints]);

    await assert.rejects(
      writing(db, async (tx) => {
        await castJob(tx, aContext(), guests.run, { instance_id: 1 });
        throw new Error('not after all');
      }),
    );
    assert.deepEqual([await listJobs(db, {}), heard], [[], []]);

    const ids = await writing(db, async (tx) => {
      const first = await castJob(tx, aContext(), guests.at('node1').run, { instance_id: 2 });
      const second = await castJob(tx, aContext(), guests.run, { instance_id: 3 });
      assert.deepEqual(heard, []);
      return [first, second];
    });

    assert.deepEqual(
      heard.map((hints) => hints.map(({ job_id, topic, host, method, args }) => [job_id, topic, host, method, args])),
      [
        [
          [ids[0], 'guest', 'node1', 'run', { instance_id: 2 }],
          [ids[1], 'guest', null, 'run', { instance_id: 3 }],
        ],
      ],
    );
    const other = all.at(-1) as NovaDb;
    assert.deepEqual(
      (await listJobs(other, {})).map((job) => [job.id, job.resource, job.state]),
      [
        [ids[1], 'instance:3', 'queued'],
        [ids[0], 'instance:2', 'queued'],
      ],
    );
  });

  it('a job for later sends no message, since nobody could run it yet', async (db) => {
    let hints = 0;
    db.afterCommit = () => void hints++;

    await ask(db, null, { run_after_s: 60 });

    assert.equal(hints, 0);
  });

  // ------------------------------------------------------------ the operator

  it('a failed job is let run again once, from its first attempt', async (db, all) => {
    const id = await ask(db, null);
    const worker = aWorker('node1');
    await claimJob(db, worker, id);
    assert.equal(await retryJob(db, id), false);
    assert.equal(await hasOpenJob(db, 'instance:7'), true);
    await settleJob(db, worker, id, { state: 'failed', error: 'no disk' });
    assert.equal(await hasOpenJob(db, 'instance:7'), false);

    const retried = await atOnce(all, 8, (on) => retryJob(on, id));

    assert.equal(succeeded(retried).filter(Boolean).length, 1);
    assert.equal((await claimJob(db, worker, id))?.attempt, 1);
  });

  it('old finished jobs go, and none that is still to do', async (db, _all, t) => {
    const [done, waiting, running] = [await ask(db, null), await ask(db, null), await ask(db, null)];
    const worker = aWorker('node1');
    for (const id of [done, running]) await claimJob(db, worker, id);
    await settleJob(db, worker, done, { state: 'done', error: null });
    const soon = new Date(clock.now().getTime() + 1000).toISOString();

    await purgeJobs(db, '2011-04-15T00:00:00.000Z');
    assert.equal((await listJobs(db, {})).length, 3);
    later(t, 3600);
    await purgeJobs(db, soon);

    assert.deepEqual(
      (await listJobs(db, {})).map((job) => job.id),
      [running, waiting],
    );
    assert.deepEqual(
      (await listJobs(db, { state: 'queued', resource: 'instance:7', limit: 1 })).map((job) => job.id),
      [waiting],
    );
  });
}
