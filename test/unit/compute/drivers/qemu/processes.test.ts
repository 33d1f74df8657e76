import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atFileLimit } from '../../../../rigs/file_limit.ts';

test('no process is taken for ended because no file may be opened', async () => {
  const said = await atFileLimit(`
    const { processesWith } = await load('compute/drivers/qemu/processes.js');
    const mine = () => processesWith((argv) => argv.includes(process.execPath));
    fill();
    closeSync(files.pop()); // enough for the list of them
    const said = await mine().catch(String);
    empty();
    console.log(said, (await mine()).includes(process.pid));
  `);

  assert.match(said, /^BackendUnavailable: the processes of this host cannot be looked at: EMFILE.* true$/m);
});
