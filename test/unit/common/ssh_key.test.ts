import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { generateSshKey, sshFingerprint } from '../../../src/common/ssh_key.ts';
import { needs } from '../../rigs/needs.ts';

test('ssh-keygen reads a generated key and agrees on its fingerprint', { skip: needs('ssh-keygen') }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'ssh_key-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const key = await generateSshKey('mine');
  const file = join(dir, 'key');
  writeFileSync(file, key.private_key, { mode: 0o600 });

  const derived = execFileSync('ssh-keygen', ['-y', '-f', file]).toString().trim();
  writeFileSync(`${file}.pub`, key.public_key);
  const listed = execFileSync('ssh-keygen', ['-E', 'md5', '-l', '-f', `${file}.pub`]).toString();

  assert.equal(key.public_key, `${derived} mine`);
  assert.ok(listed.includes(`MD5:${key.fingerprint} mine`), listed);
  assert.equal(sshFingerprint(`${key.public_key}\n`), key.fingerprint);
});

test('what is no public key is refused', () => {
  for (const text of ['', 'ssh-rsa', 'ssh-rsa AAAA', 'ssh-rsa !!!', `ssh-rsa ${'A'.repeat(20_000)}`])
    assert.throws(() => sshFingerprint(text), { name: 'InvalidInput' }, text.slice(0, 40));
  const other = Buffer.from('\0\0\0\x07ssh-dss1234', 'latin1').toString('base64');
  assert.throws(() => sshFingerprint(`ssh-rsa ${other}`), { name: 'InvalidInput' });
});
