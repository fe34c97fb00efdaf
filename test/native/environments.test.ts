/** The addon in several JavaScript environments of one process, and what happens when one of them ends. */

import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { BLOCK_SIZE } from '../../src/erofs/tree.js';
import { addon } from '../../src/native/addon.js';
import { directory, file, imageOf } from '../erofs/tree-arbitrary.js';
import { Kernel } from './kernel.js';

const BLOCK = 65536;
const BLOCKS = 32;
const SIZE = BLOCK * BLOCKS;

test('worker threads serve side by side, and one that is terminated answers and closes all it had', async (t) => {
  const path = mkdtempSync(join(tmpdir(), 'orca-workers-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  const extents = [{ fileOffset: 0, device: 1, block: 0, blocks: SIZE / BLOCK_SIZE }];
  const devices = [{ tag: 'a'.repeat(64), blocks: SIZE / BLOCK_SIZE }];
  const indexPath = join(path, 'index');
  writeFileSync(indexPath, imageOf(directory({ big: file(SIZE, extents) }), { dataBlocks: 0, devices }));

  const serve = async (data: string): Promise<{ worker: Worker; kernel: Kernel; waiting: bigint }> => {
    const [fd, kernelFd] = addon.socketPair();
    const worker = new Worker(new URL('./worker-process.js', import.meta.url), {
      workerData: {
        fd,
        indexPath,
        dataPath: join(path, data),
        mapPath: join(path, `${data}.map`),
        size: SIZE,
        blockSize: BLOCK,
      },
    });
    const kernel = new Kernel(kernelFd);
    const missed = once(worker, 'message');
    const waiting = kernel.sendRead(await kernel.lookup('big'), 5 * BLOCK, 10);
    await missed;
    return { worker, kernel, waiting };
  };

  // All of them, and this thread, use the same files.
  const servers = await Promise.all(['data', 'data', 'data'].map(serve));
  const own = new addon.BlockFile({
    dataPath: join(path, 'data'),
    mapPath: join(path, 'data.map'),
    size: SIZE,
    blockSize: BLOCK,
  });
  for (const { worker, kernel, waiting } of servers) {
    t.not(await kernel.lookup('big'), 0n);
    await worker.terminate();
    t.is((await kernel.reply(waiting)).error, -constants.errno.EIO);
    t.is(await kernel.next(), undefined);
    kernel.close();
  }
  t.is(own.count(), BLOCKS - 1, 'puts under way were finished');
  await own.close();
});
