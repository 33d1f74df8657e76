import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { pino } from 'pino';
import { listen } from '../../../src/common/listen.ts';

test('a connection that the kernel did not hand out is told in the log, and the server goes on', async (t) => {
  const told: string[] = [];
  const log = pino({}, { write: (line: string) => void told.push((JSON.parse(line) as { msg: string }).msg) });
  const server = createServer((_req, res) => res.end('here'));
  const { port, close } = await listen(server, '127.0.0.1', 0, 'a_port', log);
  t.after(() => close(0));

  for (let i = 0; i < 2; i++) server.emit('error', new Error('accept ENETDOWN'));

  assert.equal(await (await fetch(`http://127.0.0.1:${port}`)).text(), 'here');
  assert.deepEqual(told, ['a connection was not taken', 'a connection was not taken']);
});
