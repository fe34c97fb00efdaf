/** A worker thread that serves an index and then sits there, with a READ to wait for and puts under way. */
import { parentPort, workerData } from 'node:worker_threads';
import { addon } from '../../src/native/addon.js';

const { fd, indexPath, dataPath, mapPath, size, blockSize } = workerData;
const file = new addon.BlockFile({ dataPath, mapPath, size, blockSize });
new addon.Session({
  fd,
  indexPath,
  blockFiles: [file],
  onMiss(_, first) {
    for (let block = 0; block < file.blocks; block++)
      if (block !== first) void file.put(block, new Uint8Array(blockSize).fill(block + 1));
    parentPort?.postMessage('missed');
  },
  onEnd() {},
});
