import { createHash } from 'node:crypto';
import test from 'ava';
import { BlobReader } from '../../src/layer/blob-reader.js';
import { chunksOf } from './layers.js';

const BYTES = Buffer.from('some bytes of a blob');
const DIGEST = `sha256:${createHash('sha256').update(BYTES).digest('hex')}`;

test('the digest is that of all bytes, however far they were read, even with a read that nobody waits for', async (t) => {
  for (const reads of [0, 1, 3, 30]) {
    const reader = new BlobReader(chunksOf(BYTES, 3));
    const iterator = reader[Symbol.asyncIterator]();
    for (let i = 0; i < reads; i++) void iterator.next();
    t.is(await reader.digest(undefined), DIGEST);
    t.is(reader.bytesRead, BYTES.length);
  }
});

test('an error of the blob comes through once, and is remembered', async (t) => {
  async function* failing(): AsyncGenerator<Uint8Array> {
    yield BYTES;
    throw new Error('connection lost');
  }
  const reader = new BlobReader(failing());
  await t.throwsAsync(
    async () => {
      for await (const _ of reader);
    },
    { message: 'connection lost' },
  );
  t.true(reader.hasFailed);
});

test('closing closes the blob; a signal stops the digest', async (t) => {
  let closed = 0;
  async function* endless(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) yield BYTES;
    } finally {
      closed++;
    }
  }
  const reader = new BlobReader(endless());
  for await (const _ of reader) break;
  t.is(closed, 0);
  await t.throwsAsync(reader.digest(AbortSignal.abort(new Error('stop'))), { message: 'stop' });
  await reader.close();
  await reader.close();
  t.is(closed, 1);
});
