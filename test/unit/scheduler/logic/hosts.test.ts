import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chance } from '../../../../src/scheduler/logic/chance.ts';
import {
  noValidHostText,
  parseZone,
  type HostState,
  type RuleOptions,
  type Wanted,
} from '../../../../src/scheduler/logic/hosts.ts';
import { simple } from '../../../../src/scheduler/logic/simple.ts';

const aHost = (host: string, over: Partial<HostState> = {}, used = 0): HostState => ({
  host,
  zone: 'nova',
  up: true,
  stopped: false,
  disabled: false,
  silent_s: 1,
  fault: null,
  node: { vcpus: 8, vcpus_used: used, memory_mb: 8192, memory_mb_used: 0, local_gb: 100, local_gb_used: 0 },
  ...over,
});
const wanted: Wanted = { vcpus: 1, memory_mb: 512, local_gb: 0, zone: null, host: null };
const options: RuleOptions = { ratios: { cpu: 1, ram: 1, disk: 1 }, max_cores: 16, random: () => 0.5 };
const names = (choice: { hosts: HostState[] }) => choice.hosts.map(({ host }) => host);

test('only hosts that are up, enabled and known are chosen, and each other one says why', () => {
  const hosts = [
    aHost('a'),
    aHost('b', { up: false, silent_s: 75 }),
    aHost('c', { disabled: true }),
    aHost('d', { node: undefined }),
    aHost('e', { up: false, stopped: true }),
    aHost('f', { fault: { since: '2026-01-02T03:04:05.000Z', reason: 'libvirtd does not answer' } }),
  ];

  const choice = chance(hosts, wanted, options);

  assert.deepEqual(names(choice), ['a']);
  assert.deepEqual(choice.why, {
    b: 'down: no heartbeat for 75 s',
    c: 'disabled by the operator',
    d: 'has not reported its capacity yet',
    e: 'down: its nova-compute was stopped',
    f: 'its hypervisor does not answer since 2026-01-02T03:04:05.000Z: libvirtd does not answer',
  });
});

test('a full host says which resource lacks and how much of it', () => {
  const choice = chance([aHost('a', {}, 8)], { ...wanted, vcpus: 4 }, options);

  assert.deepEqual(choice.why, { a: 'vcpus: 4 wanted, 0 free of 8' });
  assert.match(
    noValidHostText({ ...wanted, vcpus: 4 }, choice.why),
    /no valid host for 4 vcpus, 512 MB, 0 GB\. a: vcpus: 4 wanted/,
  );
});

test('the simple rule takes the host with the fewest vcpus placed and none above max_cores', () => {
  const hosts = [aHost('a', {}, 5), aHost('b', {}, 2), aHost('c', {}, 7)];

  const choice = simple(hosts, wanted, { ...options, max_cores: 6 });

  assert.deepEqual(names(choice), ['b', 'a']);
  assert.match(choice.why['c'] ?? '', /--max_cores=6/);
});

test('another zone is never chosen', () => {
  const choice = chance([aHost('a', { zone: 'east' }), aHost('b')], { ...wanted, zone: 'east' }, options);

  assert.deepEqual(names(choice), ['a']);
});

test('zone:host is that host in that zone and no other, and the refusal speaks of it alone', () => {
  const hosts = [aHost('a'), aHost('b', { zone: 'east' })];
  const ask = (text: string) => {
    const asked = { ...wanted, ...parseZone(text) };
    const choice = chance(hosts, asked, options);
    return choice.hosts.length > 0 ? names(choice) : noValidHostText(asked, choice.why).replace(/^.*? in zone /, '');
  };

  assert.deepEqual(ask('nova:a'), ['a']);
  assert.deepEqual(ask(':b'), ['b']);
  assert.equal(ask('east:a'), 'east. a: in zone nova, asked for was east');
  assert.equal(ask('nova:nope'), 'nova. There is no compute host nope');
});
