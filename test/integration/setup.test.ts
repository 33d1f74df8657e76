import assert from 'node:assert/strict';
import { chmodSync, cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { execute } from '../../src/common/execute.ts';
import { projectRoot, tempDir, type Scope } from '../rigs/tmp.ts';

/** A clone on a Debian where only these packages are installed, as the script sees it; it is only asked what it would do. */
async function setup(scope: Scope, { installed, uid = 0 }: { installed: string; uid?: number }): Promise<string> {
  const dir = tempDir(scope);
  for (const name of ['package.json', 'package-lock.json', 'scripts/setup'])
    cpSync(join(projectRoot(), name), join(dir, name), { recursive: true });
  mkdirSync(join(dir, 'bin'));
  const program = (name: string, text: string) => {
    writeFileSync(join(dir, 'bin', name), `#!/bin/sh\n${text}\n`);
    chmodSync(join(dir, 'bin', name), 0o755);
  };
  program('dpkg-query', `for p in ${installed}; do echo "installed $p"; done; echo "config-files tgt"`);
  program('apt-cache', 'exit 100');
  program('id', `echo ${uid}`);
  const env = { PATH: `${join(dir, 'bin')}:${process.env['PATH']}` };
  return (await execute([join(dir, 'scripts', 'setup'), 'start', '--dry-run'], { env })).stdout;
}
const MOST =
  'libvirt-daemon-system libvirt-clients qemu-system-x86 qemu-utils qemu-block-extra dnsmasq-base ' +
  'dnsmasq-utils iptables iproute2 iputils-ping conntrack openssl';

test('on a bare clone, set-up installs what dpkg has not, then npm packages, then builds', async (t) => {
  const said = await setup(t, { installed: MOST });

  assert.deepEqual(said.split('\n'), [
    'setup: refreshing the package lists',
    '  apt-get -y -o DPkg::Lock::Timeout=600 update',
    'setup: installing ipset tgt',
    '  apt-get -y -o DPkg::Lock::Timeout=600 install --no-install-recommends ipset tgt',
    'setup: installing npm packages (the first time compiles SQLite: 1 to 2 minutes)',
    '  npm ci --no-audit --no-fund',
    'setup: building',
    '  npm run --silent build',
    '',
  ]);
});

test('a user who is not root is told the command that installs what is missing', async (t) => {
  const said = await setup(t, { installed: MOST, uid: 1000 });

  assert.match(said, /to install them: sudo apt-get install --no-install-recommends ipset tgt\n/);
  assert.doesNotMatch(said, /^ {2}apt-get/m);
});
