import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { makeLog, type Log } from '../../../src/common/log.ts';
import { tempDir } from '../../rigs/tmp.ts';
import { until } from '../../until.ts';

type Line = Record<string, unknown>;

/** What stands in the log file after `write`, which logs one line. */
async function written(t: TestContext, write: (log: Log) => void): Promise<Line> {
  const file = join(tempDir(t), 'nova.log');
  write(makeLog({ name: 'nova-test', file }));
  return until('the line is written', () => {
    const text = existsSync(file) ? readFileSync(file, 'utf8') : ''; // it is opened and written in the background
    return text.endsWith('\n') && (JSON.parse(text) as Line);
  });
}

test('a secret reaches no log, at none of three depths, and what stands beside it does', async (t) => {
  const line = await written(t, (log) =>
    log.info(
      {
        token: 'tell',
        user: 'ann',
        req: { password: 'tell', key: { secret: 'tell', size: 1 } },
        none: null,
        list: [{ token: 'tell' }],
      },
      'asked',
    ),
  );

  assert.equal(JSON.stringify(line).includes('tell'), false);
  assert.equal(line['token'], '***');
  assert.equal(line['user'], 'ann');
  assert.deepEqual(line['list'], [{ token: '***' }]);
  assert.deepEqual(line['req'], { password: '***', key: { secret: '***', size: 1 } });
});

test('an error is written with its stack and its cause, without the secrets it carries', async (t) => {
  const cause = Object.assign(new Error('refused'), { code: 'ECONNREFUSED' });
  const err = Object.assign(new Error('not reached', { cause }), {
    sql_connection: 'tell',
    details: { token: 'tell' },
  });

  const line = await written(t, (log) => log.error({ err }, 'failed'));

  const text = JSON.stringify(line);
  assert.equal(text.includes('tell'), false);
  assert.match(text, /not reached.*log\.test.*caused by.*refused/s);
});

test('a child of the log hides the secrets among its own facts', async (t) => {
  const line = await written(t, (log) => log.child({ daemon: 'nova-api', auth_token: 'tell' }).info('ready'));

  assert.deepEqual([line['daemon'], line['auth_token']], ['nova-api', '***']);
});

test('what is logged is not changed by it', async (t) => {
  const fields = { req: { password: 'mine' } };

  await written(t, (log) => log.info(fields, 'asked'));

  assert.equal(fields.req.password, 'mine');
});
