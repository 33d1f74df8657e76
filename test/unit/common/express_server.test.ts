import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import express from 'express';
import { expressServer } from '../../../src/common/express_server.ts';

test('a request keeps the prototype it was born with, and Express still answers it', async (t) => {
  const app = express();
  const born: unknown[] = [];
  app.get('/hello/:name', (req, res) => {
    born.push(Object.getPrototypeOf(req) === app.request, Object.getPrototypeOf(res) === app.response);
    res.status(201).json({ name: req.params.name, path: req.path });
  });
  const server = expressServer(app).listen(0, '127.0.0.1');
  t.after(() => server.close());
  server.on('request', (req, res) => {
    // runs after Express took the request: the prototype is still that of the server's own class
    born.push(req.constructor.name, res.constructor.name);
  });
  await once(server, 'listening');

  const answer = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/hello/ann`);

  assert.equal(answer.status, 201);
  assert.deepEqual(await answer.json(), { name: 'ann', path: '/hello/ann' });
  assert.deepEqual(born, [true, true, 'AppRequest', 'AppResponse']);
});
