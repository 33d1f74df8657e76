import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ROUTES } from '../../../../src/api/openstack/routes.ts';
import { ROUTES_1_0 } from '../../../../src/api/openstack/v1_0.ts';
import { projectRoot } from '../../../rigs/tmp.ts';

test('docs/api/openstack.md has every route', () => {
  const doc = readFileSync(join(projectRoot(), 'docs/api/openstack.md'), 'utf8');

  for (const { method, path, action } of [...ROUTES, ...ROUTES_1_0]) {
    const call = `\`${method} ${path}${action === undefined ? '' : ` ${action}`}\``;
    assert.ok(doc.includes(call), `${call}: run npm run docs:osapi`);
  }
});
