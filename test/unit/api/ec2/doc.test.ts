import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ec2Actions } from '../../../../src/api/ec2/actions.ts';
import { projectRoot } from '../../../rigs/tmp.ts';

test('docs/api/ec2.md has every action with every parameter', () => {
  const doc = readFileSync(join(projectRoot(), 'docs/api/ec2.md'), 'utf8');

  for (const { name, about, params } of ec2Actions.values()) {
    const row = doc.split('\n').find((line) => line.split('|')[1]?.trim() === name) ?? '';
    assert.ok(row.includes(about.replaceAll('*', '\\*')), `${name}: run npm run docs:ec2`);
    for (const param of Object.keys(params))
      assert.match(row, new RegExp(`\\b${param}(\\*\\*)?: `), `${name} ${param}: run npm run docs:ec2`);
  }
});
