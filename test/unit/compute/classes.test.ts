import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Flags } from '../../../src/common/flags.ts';
import { silentLog } from '../../../src/common/log.ts';
import { makeComputeDriver } from '../../../src/compute/classes.ts';

const made = async (flags: Record<string, unknown>): Promise<string> =>
  (await makeComputeDriver({ flags: Flags.of(flags), log: silentLog })).constructor.name;

test('--connection_type chooses the driver, and a dotted --compute_driver goes before it', async () => {
  assert.equal(await made({ connection_type: 'fake' }), 'FakeDriver');
  assert.equal(
    await made({ connection_type: 'libvirt', compute_driver: 'nova.virt.fake.FakeConnection' }),
    'FakeDriver',
  );
});

test('a hypervisor that Nova drove and we do not is refused by name, and a misspelt one with the known names', async () => {
  for (const connection_type of ['xenapi', 'hyperv', 'vmwareapi'])
    await assert.rejects(made({ connection_type }), {
      name: 'ClassNotFound',
      message: new RegExp(
        `^--connection_type=${connection_type}: .*not part of this suite. Use libvirt, qemu or fake$`,
      ),
    });
  await assert.rejects(made({ connection_type: 'libvrit' }), { message: /--connection_type=libvrit: .*Known: .*fake/ });
  await assert.rejects(made({ compute_driver: 'no.such.Driver' }), { message: /--compute_driver=no\.such\.Driver/ });
});
