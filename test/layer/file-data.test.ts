import { mkdtempSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { BLOCK_SIZE, type FileExtent } from '../../src/erofs/tree.js';
import { FileData } from '../../src/layer/file-data.js';
import { PayloadWriter } from '../../src/layer/payload-writer.js';

type Piece = readonly [offset: number, bytes: Uint8Array];

async function withData(run: (data: FileData, writer: PayloadWriter) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'orca-file-data-'));
  const file = await open(join(directory, 'payload'), 'wx+');
  try {
    const writer = new PayloadWriter(file, 'payload', 131_072);
    await run(new FileData(writer), writer);
    await writer.finish(new Uint8Array(BLOCK_SIZE));
  } finally {
    await file.close();
    rmSync(directory, { recursive: true });
  }
}

function put(
  data: FileData,
  size: number,
  pieces: readonly Piece[],
  isSparse = false,
): Promise<readonly FileExtent[]> {
  data.begin(
    isSparse ? { size, segments: pieces.map(([offset, { length }]) => ({ offset, length })) } : { size },
  );
  for (const [offset, bytes] of pieces) data.append(offset, bytes);
  return data.end();
}

function bytes(length: number, fill = 'x'): Buffer {
  return Buffer.alloc(length, fill);
}

test('files lie in order, each in one run of blocks', async (t) => {
  await withData(async (data) => {
    t.deepEqual(
      await put(data, 5000, [
        [0, bytes(3000)],
        [3000, bytes(2000)],
      ]),
      [{ fileOffset: 0, device: 0, block: 1, blocks: 2 }],
    );
    t.deepEqual(await put(data, 0, []), []);
    t.deepEqual(await put(data, 1, [[0, bytes(1)]]), [{ fileOffset: 0, device: 0, block: 3, blocks: 1 }]);
  });
});

test('files with equal content share blocks, and the second takes no room', async (t) => {
  await withData(async (data, writer) => {
    const big = bytes(3_000_000);
    const first = await put(data, big.length, [[0, big]]);
    await put(data, 10, [[0, bytes(10, 'y')]]);
    const { position } = writer;
    t.deepEqual(
      await put(data, big.length, [
        [0, big.subarray(0, 9)],
        [9, big.subarray(9)],
      ]),
      first,
    );
    t.is(writer.position, position);
    t.is((await put(data, 10, [[0, bytes(10, 'y')]]))[0]?.block, 734);
    t.is((await put(data, 10, [[0, bytes(10, 'z')]]))[0]?.block, 735);
  });
});

test('equal CRC-32 and size do not make equal content', async (t) => {
  // Two texts of one CRC-32 (0x4ddb0c25), a well-known pair.
  await withData(async (data) => {
    const a = await put(data, 8, [[0, Buffer.from('plumless')]]);
    const b = await put(data, 8, [[0, Buffer.from('buckeroo')]]);
    t.not(a[0]?.block, b[0]?.block);
  });
});

test('holes take no blocks, and pieces within a block share it', async (t) => {
  await withData(async (data) => {
    const pieces: Piece[] = [
      [10, bytes(5)],
      [100, bytes(4000)],
      [5000, bytes(1)],
      [20_000, bytes(1)],
      [24_576, bytes(4096)],
      [99_999, bytes(1)],
    ];
    t.deepEqual(await put(data, 100_000, pieces, true), [
      { fileOffset: 0, device: 0, block: 1, blocks: 2 },
      { fileOffset: 16_384, device: 0, block: 3, blocks: 1 },
      { fileOffset: 24_576, device: 0, block: 4, blocks: 1 },
      { fileOffset: 98_304, device: 0, block: 5, blocks: 1 },
    ]);
    t.deepEqual(await put(data, 1 << 30, [], true), []);
  });
});

test('a huge sparse file is described in larger chunks', async (t) => {
  await withData(async (data) => {
    const size = 2 ** 40;
    const extents = await put(
      data,
      size,
      [
        [5000, bytes(1)],
        [size - 1, bytes(1)],
      ],
      true,
    );
    const chunk = 2 ** 24 / BLOCK_SIZE;
    t.deepEqual(extents, [
      { fileOffset: 0, device: 0, block: 1, blocks: chunk },
      { fileOffset: size - 2 ** 24, device: 0, block: 1 + chunk, blocks: chunk },
    ]);
  });
});
