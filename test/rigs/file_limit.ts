import { execute } from '../../src/common/execute.ts';

const PRELUDE = `
import { closeSync, openSync } from 'node:fs';
const load = (file) => import('${new URL('../../src/', import.meta.url).href}' + file);
const files = [];
const fill = () => {
  for (;;)
    try {
      files.push(openSync('/dev/null'));
    } catch (err) {
      if (err.code === 'EMFILE') return;
      throw err;
    }
};
const empty = () => files.splice(0).forEach((fd) => closeSync(fd));
`;

/**
 * Runs a script, the body of a module, in a process that may have few files open: after its `fill()` it can open none,
 * until its `empty()`. `load('common/execute.js')` is a module of ours. @returns what it prints. @throws ProcessExecutionError
 */
export async function atFileLimit(script: string): Promise<string> {
  const { stdout } = await execute(
    ['sh', '-c', 'ulimit -n 64; exec "$0" --input-type=module -e "$1"', process.execPath, PRELUDE + script],
    { env: { NODE_TEST_CONTEXT: '' } },
  );
  return stdout;
}
