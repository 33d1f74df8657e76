import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { BackendUnavailable } from '../../../../../src/common/errors.ts';
import { Virsh } from '../../../../../src/compute/drivers/libvirt/virsh.ts';
import { tempDir } from '../../../../rigs/tmp.ts';

test('a virsh that is not there is to be installed; one that cannot be run just now is not', async (t) => {
  const bin = tempDir(t);
  const path = process.env['PATH'];
  t.after(() => (process.env['PATH'] = path));
  process.env['PATH'] = bin;
  const run = () => new Virsh('test:///default').run(['list']);
  const fails = (message: RegExp) => (err: Error) => {
    assert.ok(err instanceof BackendUnavailable, String(err));
    assert.match(err.message, message);
    return true;
  };

  await assert.rejects(run(), fails(/virsh is not there: install libvirt-clients/));
  writeFileSync(join(bin, 'virsh'), '', { mode: 0o644 });
  await assert.rejects(run(), fails(/virsh cannot be run: .*EACCES/));
});
