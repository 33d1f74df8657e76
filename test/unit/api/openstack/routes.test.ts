import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROUTES } from '../../../../src/api/openstack/routes.ts';
import { RouteTable } from '../../../../src/api/openstack/route_table.ts';
import { hostId } from '../../../../src/api/openstack/views/servers.ts';
import { SERVER_STATUSES, serverStatus } from '../../../../src/api/openstack/views/status.ts';
import { baseUrl } from '../../../../src/api/openstack/urls.ts';

test('every route is found at its own path, and no two are at one', () => {
  const table = new RouteTable(ROUTES);
  for (const route of ROUTES) {
    const parts = route.path
      .split('/')
      .slice(1)
      .map((part) => part.replace(/^:/, 'the-'));
    const found = table.find(route.method, parts);
    const got = 'route' in found ? found.route : found.actions.get(route.action ?? '');
    assert.equal(got, route, `${route.method} ${route.path} ${route.action ?? ''}`);
  }
  const [first] = ROUTES;
  assert.ok(first);
  assert.throws(() => new RouteTable([...ROUTES, first]), /is there twice/);
});

test('a status is what the instance is, and what is being done to it when it is active', () => {
  const cases: [string, string | null, string][] = [
    ['active', null, 'ACTIVE'],
    ['active', 'rebooting', 'REBOOT'],
    ['active', 'resize_verify', 'VERIFY_RESIZE'],
    ['active', 'deleting', 'ACTIVE'],
    ['building', 'rebooting', 'BUILD'],
    ['stopped', null, 'STOPPED'],
    ['error', null, 'ERROR'],
    ['deleted', null, 'DELETED'],
    ['puzzled', null, 'UNKNOWN_STATE'],
  ];
  for (const [vm_state, task_state, status] of cases) {
    assert.equal(serverStatus({ vm_state, task_state }), status);
    assert.ok(status === 'UNKNOWN_STATE' || SERVER_STATUSES.includes(status));
  }
});

test('the host id is the sha224 of the host, and empty while there is none', () => {
  assert.equal(hostId('abc'), '23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7');
  assert.equal(hostId(null), '');
});

test('links use the host that the client asked, when it is one', () => {
  assert.equal(baseUrl('http', 'cloud.example:8774', 'x'), 'http://cloud.example:8774');
  assert.equal(baseUrl('https', '[::1]:80', 'x'), 'https://[::1]:80');
  for (const host of [undefined, '', 'a b', 'evil/path', '<script>'])
    assert.equal(baseUrl('http', host, 'x:1'), 'http://x:1');
});
