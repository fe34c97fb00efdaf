import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { BLOCK_SIZE } from '../../src/erofs/tree.js';
import { PayloadWriter } from '../../src/layer/payload-writer.js';

const SUPERBLOCK = new Uint8Array(BLOCK_SIZE).fill(0x53);

/** Runs `write` and returns what is in the file, after comparing the block digests with it. */
async function written(blockSize: number, write: (writer: PayloadWriter) => Promise<void>): Promise<Buffer> {
  const directory = mkdtempSync(join(tmpdir(), 'orca-payload-writer-'));
  const path = join(directory, 'payload');
  const file = await open(path, 'wx+');
  try {
    const writer = new PayloadWriter(file, path, blockSize);
    await write(writer);
    const digests = Buffer.from(await writer.finish(SUPERBLOCK));
    const content = readFileSync(path);
    const expected: Buffer[] = [];
    for (let at = 0; at < content.length; at += blockSize) {
      expected.push(
        createHash('sha256')
          .update(content.subarray(at, at + blockSize))
          .digest(),
      );
    }
    if (!digests.equals(Buffer.concat(expected))) throw new Error('the block digests are wrong');
    return content;
  } finally {
    await file.close();
    rmSync(directory, { recursive: true });
  }
}

/** Bytes that differ from place to place. */
function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0, state = seed; at < length; at++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    bytes[at] = state >>> 16;
  }
  return bytes;
}

for (const blockSize of [4096, 131_072, 4 << 20]) {
  test(`appended bytes are in the file behind the superblock, with digests of ${blockSize} bytes`, async (t) => {
    const parts = [pattern(10, 1), pattern(3_000_000, 2), pattern(100_000, 3), pattern(2_500_000, 4)];
    const content = await written(blockSize, async (writer) => {
      t.is(writer.position, BLOCK_SIZE);
      for (const part of parts) {
        writer.append(part);
        await writer.ready();
      }
      writer.padTo(writer.position + 5000);
    });
    t.true(content.equals(Buffer.concat([SUPERBLOCK, ...parts, Buffer.alloc(5000)])));
  });

  test(`bytes that were taken back are gone, near and far, with digests of ${blockSize} bytes`, async (t) => {
    const [a, b, c, d] = [
      pattern(500_000, 1),
      pattern(6_000_000, 2),
      pattern(9_000_000, 3),
      pattern(70_000, 4),
    ];
    const content = await written(blockSize, async (writer) => {
      writer.append(b);
      await writer.rewind(BLOCK_SIZE);
      writer.append(a);
      writer.append(d);
      await writer.rewind(BLOCK_SIZE + a.length);
      writer.append(b);
      const end = writer.position;
      writer.append(c);
      await writer.rewind(end);
      writer.append(d);
    });
    t.true(content.equals(Buffer.concat([SUPERBLOCK, a, b, d])));
  });
}

test('ranges are compared wherever they lie: on disk, in memory or across', async (t) => {
  const part = pattern(2_200_000, 7);
  const other = Buffer.from(part);
  other[2_199_999] = 1 - (other[2_199_999] as number);
  await written(131_072, async (writer) => {
    for (const bytes of [part, part, other, part.subarray(0, 100), part.subarray(0, 100)])
      writer.append(bytes);
    const at = (n: number): number => BLOCK_SIZE + n * part.length;
    t.true(await writer.equals(at(0), at(1), part.length));
    t.true(await writer.equals(at(0), at(2), part.length - 1));
    t.false(await writer.equals(at(0), at(2), part.length));
    t.true(await writer.equals(at(3), at(3) + 100, 100));
    t.true(await writer.equals(at(1), at(3), 100));
  });
});

test('a payload without data is a superblock', async (t) => {
  t.true((await written(131_072, async () => {})).equals(Buffer.from(SUPERBLOCK)));
});

test('a write that fails is told at the next opportunity, with the path', async (t) => {
  const file = await open('/dev/full', 'r+');
  try {
    const writer = new PayloadWriter(file, '/dev/full', 131_072);
    const error = await t.throwsAsync(async () => {
      for (let i = 0; i < 100; i++) {
        writer.append(pattern(1 << 20, i));
        await writer.ready();
      }
    });
    t.like(error, { code: 'WRITE_FAILED' });
    t.regex(error?.message ?? '', /\/dev\/full.*ENOSPC/);
    await writer.abandon();
  } finally {
    await file.close();
  }
});
