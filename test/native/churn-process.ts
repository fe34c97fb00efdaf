/** Puts and evicts random blocks of a block file until stdin ends: node churn-process.js DATA MAP SIZE BLOCKSIZE */
import { addon } from '../../src/native/addon.js';

const [dataPath = '', mapPath = '', size = '0', blockSize = '0'] = process.argv.slice(2);
const file = new addon.BlockFile({ dataPath, mapPath, size: Number(size), blockSize: Number(blockSize) });
let stopped = false;
process.stdin.on('end', () => {
  stopped = true;
});
process.stdin.resume();
console.log('ready');
while (!stopped) {
  const block = file.blocks - 1 - Math.floor(Math.random() * 8);
  file.evict(block, 1);
  await file.put(block, new Uint8Array(Number(blockSize)).fill(block + 1));
  // Most of the time every block is present, so that a reader begins with all of them in sight.
  await new Promise((resolve) => setTimeout(resolve, 1));
}
await file.close();
