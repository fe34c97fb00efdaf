// Reads all files of a directory, past the page cache, again and again until SIGTERM. The report has a line for each
// round with its number, and one for each error or difference.
import { appendFileSync, closeSync, constants, openSync, readdirSync, readSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

const [, , directory, report] = process.argv;
const buffer = Buffer.alloc(1 << 20);
const first = new Map();
let isEnding = false;
process.on('SIGTERM', () => {
  isEnding = true;
});

function digestOf(path) {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECT);
  const hash = createHash('sha256');
  for (let at = 0, size = -1; size !== 0; at += size) {
    size = readSync(fd, buffer, 0, buffer.length, at);
    hash.update(buffer.subarray(0, size));
  }
  closeSync(fd);
  return hash.digest('hex');
}

for (let round = 1; !isEnding; round++) {
  try {
    for (const name of readdirSync(directory)) {
      const digest = digestOf(`${directory}/${name}`);
      if ((first.get(name) ?? digest) !== digest) throw new Error(`${name} has other bytes than before`);
      first.set(name, digest);
      // The machine has other things to do as well.
      await sleep(5);
    }
    appendFileSync(report, `${round}\n`);
  } catch (error) {
    appendFileSync(report, `${error.message}\n`);
  }
}
appendFileSync(report, 'ended\n');
