/** What a session says will be wanted next, by where READs that have to wait stand in the layout of the image. */
import test, { type ExecutionContext } from 'ava';
import { BLOCK_SIZE } from '../../src/erofs/tree.js';
import { directory, file } from '../erofs/tree-arbitrary.js';
import { type Served, serve } from './kernel.js';
import { BLOCK, block, DEVICE_SIZE, withoutData } from './sample-index.js';

/** A file from the beginning of device 1 on, or from `at`. */
const fileAt = (at: number, size: number) =>
  file(size, [{ fileOffset: 0, device: 1, block: at / BLOCK_SIZE, blocks: Math.ceil(size / BLOCK_SIZE) }]);

/** The two ends of the device by turns: more pieces than anybody is told of. */
const scattered = Array.from({ length: 40 }, (_, index) => ({
  fileOffset: index * BLOCK_SIZE,
  device: 1,
  block: ((index % 2 === 0 ? index : 39 - index) * BLOCK) / BLOCK_SIZE,
  blocks: 1,
}));

const tree = directory({
  library: fileAt(0, DEVICE_SIZE),
  module: fileAt(3 * BLOCK, 6 * BLOCK),
  script: fileAt(20 * BLOCK, 4096),
  last: fileAt(39 * BLOCK, 4096),
  scattered: file(40 * BLOCK_SIZE, scattered),
});

interface Foreseeing extends Served {
  likely: number[][];
}

function start(t: ExecutionContext): Foreseeing {
  const likely: number[][] = [];
  const served = serve(withoutData(tree), [DEVICE_SIZE], {
    threads: 1,
    onLikely: (...run) => likely.push(run),
  });
  t.teardown(() => served.close());
  return { ...served, likely };
}

/** Reads some bytes of a file, which has to wait for one block, and gives what was foreseen then. */
async function miss({ kernel, files, likely, missed }: Foreseeing, name: string, offset: number, at: number) {
  const unique = kernel.sendRead(await kernel.lookup(name), offset, 1);
  await missed();
  await files[0]!.put(at, block(at));
  await kernel.reply(unique);
  await told(kernel);
  return likely.splice(0);
}

/** The one thread of the session answers after it has told all, and that comes within the same turn or the next. */
async function told(kernel: Served['kernel']): Promise<void> {
  await kernel.lookup('script');
  for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setImmediate(resolve));
}

test('a library is wanted whole once it is read anywhere but at its front', async (t) => {
  const served = start(t);
  t.deepEqual(await miss(served, 'library', 0, 0), []);
  t.deepEqual(await miss(served, 'library', 7 * BLOCK, 7), [[0, 1, 39]]);
});

test('a small file is wanted whole at once, what is here excepted', async (t) => {
  const served = start(t);
  await served.files[0]!.put(3, block(3));
  await served.files[0]!.put(8, block(8));
  t.deepEqual(await miss(served, 'module', BLOCK, 4), [[0, 5, 3]]);
});

test('a tiny file is followed by its neighbours, where there are any', async (t) => {
  const served = start(t);
  t.deepEqual(await miss(served, 'script', 0, 20), [[0, 21, 2]]);
  t.deepEqual(await miss(served, 'last', 0, 39), []);
  for (const number of [21, 22]) await served.files[0]!.put(number, block(number));
  served.files[0]!.evict(20, 1);
  t.deepEqual(await miss(served, 'script', 0, 20), [], 'it is here');
});

test('a file in many pieces is not told whole', async (t) => {
  const served = start(t);
  t.is((await miss(served, 'scattered', 0, 0)).length, 8);
});

test('a READ that need not wait foresees nothing', async (t) => {
  const served = start(t);
  await served.files[0]!.put(7, block(7));
  const nodeid = await served.kernel.lookup('library');
  t.is((await served.kernel.read(nodeid, 7 * BLOCK, 1)).error, 0);
  await told(served.kernel);
  t.deepEqual(served.likely, []);
});
