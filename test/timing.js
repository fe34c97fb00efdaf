/** Loaded into every ava worker: appends how long the test file took to the file that ORCA_TEST_TIMES names. */
import { appendFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import test from 'ava';

const times = process.env.ORCA_TEST_TIMES;
if (times !== undefined) {
  process.on('exit', () => {
    appendFileSync(times, `${Math.round(performance.now())} ${fileURLToPath(test.meta.file)}\n`);
  });
}
