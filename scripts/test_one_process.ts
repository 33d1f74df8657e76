import test from 'node:test';
import { pathToFileURL } from 'node:url';

/** Runs the test files of its command line in this process. One that cannot be loaded is a failed test of its name. */
for (const file of process.argv.slice(2)) {
  try {
    await import(pathToFileURL(file).href);
  } catch (err) {
    void test(file, () => {
      throw err;
    });
  }
}
