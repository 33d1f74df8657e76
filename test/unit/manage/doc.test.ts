import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { synopsis } from '../../../src/manage/help.ts';
import { NOUNS } from '../../../src/manage/nouns.ts';
import { projectRoot } from '../../rigs/tmp.ts';

test('docs/nova-manage.md has every command with its arguments', async () => {
  const doc = readFileSync(join(projectRoot(), 'docs/nova-manage.md'), 'utf8');

  for (const { load } of NOUNS) {
    const noun = await load();
    const commands = Object.entries(noun.verbs).map(([name, verb]) => `${noun.name} ${name} ${synopsis(verb.args)}`);
    if (noun.itself) commands.push(`${noun.name} ${synopsis(noun.itself.args)}`);
    for (const command of commands)
      assert.ok(doc.includes(`| \`${command.trim()}\` |`), `${command}: run npm run docs:manage`);
  }
});

test('every noun answers to its own name first', async () => {
  for (const { names, load } of NOUNS) assert.equal((await load()).name, names[0]);
});
