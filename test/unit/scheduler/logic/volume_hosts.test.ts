import assert from 'node:assert/strict';
import { test } from 'node:test';
import { volumeSimple, type VolumeHostState, type WantedVolume } from '../../../../src/scheduler/logic/volume_hosts.ts';

const aHost = (host: string, over: Partial<VolumeHostState> = {}): VolumeHostState => ({
  host,
  zone: 'nova',
  up: true,
  stopped: false,
  disabled: false,
  silent_s: 1,
  limit_gb: 100,
  promised_gb: 0,
  ...over,
});
const choose = (hosts: VolumeHostState[], wanted: Partial<WantedVolume> = {}, max_gigabytes = 1000) => {
  const options = { max_gigabytes, random: () => assert.fail('nothing is left to chance') };
  const { hosts: fit, why } = volumeSimple(hosts, { size_gb: 10, zone: 'nova', host: null, ...wanted }, options);
  return { hosts: fit.map(({ host }) => host), why };
};

test('simple takes the host with the fewest gigabytes promised first', () => {
  const hosts = [
    aHost('most', { promised_gb: 50 }),
    aHost('least', { promised_gb: 5 }),
    aHost('some', { promised_gb: 6 }),
  ];
  assert.deepEqual(choose(hosts), { hosts: ['least', 'some', 'most'], why: {} });
});

test('simple places no more than --max_gigabytes on a host, and says so with the numbers', () => {
  const hosts = [aHost('just', { promised_gb: 10 }), aHost('over', { promised_gb: 11 })];
  const { hosts: fit, why } = choose(hosts, {}, 20);
  assert.deepEqual(fit, ['just']);
  assert.match(why['over'] ?? '', /11 GiB placed, 10 more would pass --max_gigabytes=20/);
});

test('a host without room, or that is down, stopped, disabled or has not reported, is not chosen', () => {
  const { hosts, why } = choose([
    aHost('full', { promised_gb: 91 }),
    aHost('fits', { promised_gb: 90 }),
    aHost('down', { up: false, silent_s: 99 }),
    aHost('stopped', { up: false, stopped: true }),
    aHost('disabled', { disabled: true }),
    aHost('new', { limit_gb: undefined }),
  ]);
  assert.deepEqual(hosts, ['fits']);
  assert.deepEqual(Object.keys(why).toSorted(), ['disabled', 'down', 'full', 'new', 'stopped']);
  assert.match(why['full'] ?? '', /10 GiB wanted, 9 free of 100/);
  assert.match(why['down'] ?? '', /no heartbeat for 99 s/);
});

test('only hosts of the zone that was asked for are chosen', () => {
  const { hosts, why } = choose([aHost('here', { promised_gb: 50 }), aHost('there', { zone: 'south' })]);
  assert.deepEqual(hosts, ['here']);
  assert.match(why['there'] ?? '', /in zone south, asked for was nova/);
});

test('a volume of a snapshot goes to the host that has it, also past --max_gigabytes, or nowhere', () => {
  const wanted = { host: 'has', because: 'snap-00000001 is on has' };
  const empty = aHost('empty');
  assert.deepEqual(choose([empty, aHost('has', { promised_gb: 80 })], wanted, 20).hosts, ['has']);
  assert.deepEqual(choose([empty, aHost('has', { promised_gb: 95 })], wanted).hosts, []);
  assert.deepEqual(choose([empty, aHost('has', { up: false })], wanted).hosts, []);
});
