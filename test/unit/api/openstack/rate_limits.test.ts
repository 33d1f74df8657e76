import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RateLimits } from '../../../../src/api/openstack/rate_limits.ts';

const at = (seconds: number) => new Date(Date.UTC(2011, 8, 22) + seconds * 1000);

test('the eleventh POST of a minute is refused with the time to wait, and another user is not affected', () => {
  const limits = new RateLimits();
  for (let i = 0; i < 10; i++) assert.equal(limits.count('ann', 'POST', '/images', at(0)), undefined);

  const refusal = limits.count('ann', 'POST', '/images', at(0));

  assert.deepEqual([refusal?.limit.uri, Math.round(refusal?.wait_s ?? 0)], ['*', 6]);
  assert.equal(limits.count('bob', 'POST', '/images', at(0)), undefined);
  assert.equal(limits.count('ann', 'GET', '/images', at(0)), undefined);
  assert.notEqual(limits.count('ann', 'POST', '/images', at(5)), undefined, 'a refused one is not counted');
  assert.equal(limits.count('ann', 'POST', '/images', at(6)), undefined);
});

test('new servers are limited by the day, and lists of changes by the minute', () => {
  const limits = new RateLimits();
  for (let i = 0; i < 50; i++) assert.equal(limits.count('ann', 'POST', '/servers', at(i * 10)), undefined);
  assert.equal(limits.count('ann', 'POST', '/servers', at(510))?.limit.unit, 'DAY');
  for (let i = 0; i < 3; i++) limits.count('ann', 'GET', '/servers?changes-since=x', at(0));
  assert.notEqual(limits.count('ann', 'GET', '/servers/detail?changes-since=x', at(0)), undefined);
  assert.equal(limits.count('ann', 'GET', '/servers/detail', at(0)), undefined);
});

test('what is left of each limit is told', () => {
  const limits = new RateLimits();
  for (let i = 0; i < 4; i++) limits.count('ann', 'POST', '/servers', at(0));

  const [post, servers] = limits.states('ann', at(0));
  assert.deepEqual([post?.remaining, post?.next_available, servers?.remaining], [6, at(0).toISOString(), 46]);
  for (let i = 0; i < 6; i++) limits.count('ann', 'POST', '/servers', at(0));
  assert.deepEqual(
    limits.states('ann', at(0)).map(({ remaining, next_available }) => [remaining, next_available]),
    [
      [0, at(6).toISOString()],
      [40, at(0).toISOString()],
      [10, at(0).toISOString()],
      [3, at(0).toISOString()],
      [100, at(0).toISOString()],
    ],
  );
});
