import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { anObjectStore } from './an_object_store.ts';
import { ask, bucketsOf } from './s3_request.ts';

// Expected answers: objectstore-and-images.md, section 7 (Nova 2011), and AWS where Nova had nothing.

const store = await anObjectStore({ after });
const aBucket = bucketsOf(store);

test('a bucket is made, listed with its date, refused a second time with 403, and deleted', async () => {
  const b = await aBucket();
  const list = await ask(store, 'GET', '/');
  assert.match(
    list.text,
    new RegExp(`<Bucket><Name>${b}</Name><CreationDate>[\\d-]{10}T[\\d:]{8}\\.000Z</CreationDate></Bucket>`),
  );
  assert.equal(list.headers['content-type'], 'application/xml; charset=UTF-8');
  const again = await ask(store, 'PUT', `/${b}/`);
  assert.deepEqual([again.status, again.code], [403, 'BucketAlreadyOwnedByYou']);
  assert.equal((await ask(store, 'HEAD', `/${b}`)).status, 200);
  assert.equal((await ask(store, 'DELETE', `/${b}`)).status, 204);
  const gone = await ask(store, 'DELETE', `/${b}`);
  assert.deepEqual([gone.status, gone.code], [404, 'NoSuchBucket']);
  assert.equal((await ask(store, 'GET', `/${b}/`)).status, 404);
});

test('a bucket with objects is not deleted', async () => {
  const b = await aBucket();
  await ask(store, 'PUT', `/${b}/k`, { body: 'x' });
  const refused = await ask(store, 'DELETE', `/${b}`);
  assert.deepEqual([refused.status, refused.code], [403, 'BucketNotEmpty']);
  assert.equal((await ask(store, 'GET', `/${b}/k`)).text, 'x');
});

test('a bucket whose name is no folder name is refused', async () => {
  for (const path of ['/..', '/%2e%2e/x', '/.nova/tmp', '//x', '/%00'])
    assert.deepEqual([(await ask(store, 'PUT', path, { body: 'x' })).code], ['InvalidBucketName'], path);
});

test('a bucket of a deleted project is not for the next one of its name; one made before that was kept is', async () => {
  const { buckets } = store.store;
  await buckets.create('of-a-former', { project_id: 'apollo', project_created_at: '2011-04-15', user_id: 'eve' });
  await buckets.create('of-old', { project_id: 'apollo', user_id: 'eve' });
  const b = await aBucket('ann');

  const listed = (await ask(store, 'GET', '/')).text;

  assert.deepEqual(
    ['of-a-former', 'of-old', b].map((name) => listed.includes(`<Name>${name}</Name>`)),
    [false, true, true],
  );
  for (const [method, path] of [
    ['GET', '/of-a-former'],
    ['PUT', '/of-a-former/k'],
    ['DELETE', '/of-a-former'],
  ] as const) {
    const answer = await ask(store, method, path);
    assert.equal(answer.code, 'AccessDenied', `${method} ${path}`);
    assert.match(answer.text, /belongs to a deleted project/);
  }
  assert.equal((await ask(store, 'PUT', '/of-a-former')).code, 'BucketAlreadyExists');
  assert.equal((await ask(store, 'PUT', '/of-old')).code, 'BucketAlreadyOwnedByYou');
  assert.equal((await ask(store, 'PUT', '/of-old/k', { body: 'x' })).status, 200);
  assert.match(buckets.owner(b).project_created_at ?? '', /^20.*Z$/);
});

test('itsec sees every bucket and changes none, in a project it is no member of', async () => {
  const b = await aBucket('ann');
  await ask(store, 'PUT', `/${b}/k`, { body: 'x' });
  const user = { id: 'sec', name: 'sec', access_key: 'sec-access', secret_key: 'sec-secret' };
  await store.db
    .insertInto('users')
    .values({ ...user, created_at: '2011-04-15T00:00:00.000Z' })
    .execute();
  await store.db.insertInto('user_role_association').values({ user_id: 'sec', role: 'itsec' }).execute();

  assert.equal((await ask(store, 'GET', `/${b}/k`, { as: 'sec' })).text, 'x');
  for (const [method, path] of [
    ['PUT', `/${b}/k`],
    ['DELETE', `/${b}/k`],
    ['PUT', '/of-sec'],
  ] as const) {
    const { status, code } = await ask(store, method, path, { as: 'sec' });
    assert.deepEqual([status, code], [403, 'AccessDenied'], `${method} ${path}`);
  }
});

test("a project neither sees nor reaches another project's buckets", async () => {
  const b = await aBucket('ann');
  await ask(store, 'PUT', `/${b}/k`, { body: 'secret' });
  assert.ok(!(await ask(store, 'GET', '/', { as: 'bob' })).text.includes(b));
  const mine = await aBucket('bob');
  for (const [method, path, headers] of [
    ['GET', `/${b}`, {}],
    ['HEAD', `/${b}`, {}],
    ['DELETE', `/${b}`, {}],
    ['GET', `/${b}/k`, {}],
    ['PUT', `/${b}/k`, {}],
    ['DELETE', `/${b}/k`, {}],
    ['POST', `/${b}/k?uploads`, {}],
    ['PUT', `/${mine}/stolen`, { 'x-amz-copy-source': `/${b}/k` }],
  ] as const)
    assert.equal((await ask(store, method, path, { as: 'bob', headers })).status, 403, `${method} ${path}`);
  const taken = await ask(store, 'PUT', `/${b}`, { as: 'bob' });
  assert.deepEqual([taken.status, taken.code], [403, 'BucketAlreadyExists']);
  assert.equal((await ask(store, 'GET', `/${b}/k`)).text, 'secret');
});
