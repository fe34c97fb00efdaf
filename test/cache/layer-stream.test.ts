import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { type LayerHandle, type Source, SourceError, type VhdPiece } from '../../src/source/source.js';
import { FaultSource, randomLayer, seeded, type TestLayer } from './layer-fixture.js';
import { BLOCK, Rig } from './scheduler-rig.js';

const EIO = 5;
const PIECE = 512 << 10;
const SIZE = 8 * PIECE + 100;

/** Gives its layers as streams; `plan` is asked before each piece, and may wait, change its bytes or throw. */
class StreamSource implements Source {
  readonly kind = 'blob';
  readonly location = 'stream';
  /** How many streams were begun, and how many have ended. */
  begun = 0;
  ended = 0;
  plan: (offset: number, bytes: Buffer, signal: AbortSignal) => unknown = () => undefined;
  readonly #layers: ReadonlyMap<string, Buffer>;

  constructor(layers: readonly TestLayer[]) {
    this.#layers = new Map(layers.map(({ bytes, digests }) => [digests.diffID, bytes]));
  }

  async readFile(): Promise<Uint8Array> {
    throw new SourceError('NOT_FOUND', 'no files');
  }

  async openLayer(diffID: string): Promise<LayerHandle> {
    const bytes = this.#layers.get(diffID) as Buffer;
    return {
      size: bytes.length,
      read: async () => Promise.reject(new Error('a stream is not read')),
      stream: (pieceSize, signal) => this.#stream(bytes, pieceSize, signal),
      close: async () => undefined,
    };
  }

  async *#stream(
    bytes: Buffer,
    pieceSize: number,
    signal: AbortSignal,
  ): AsyncGenerator<VhdPiece, void, void> {
    this.begun += 1;
    try {
      for (let offset = 0; offset < bytes.length; offset += pieceSize) {
        const piece = Buffer.from(bytes.subarray(offset, offset + pieceSize));
        await this.plan(offset, piece, signal);
        yield { offset, bytes: piece };
      }
    } finally {
      this.ended += 1;
    }
  }

  async probe(): Promise<void> {}
  async close(): Promise<void> {}
}

const block = (offset: number) => Math.floor(offset / BLOCK);

test('what passes fills the cache, and readers of all places are answered by one stream', async (t) => {
  const content = randomLayer(1, SIZE);
  const source = new StreamSource([content]);
  const rig = new Rig(content, [source as unknown as FaultSource]);
  const random = seeded(1);
  const places = Array.from({ length: 50 }, () => Math.floor(random() * content.digests.count));
  for (const [index, answer] of (await Promise.all(places.map((place) => rig.read(place)))).entries()) {
    t.deepEqual(answer, rig.expected(places[index] as number));
  }
  await rig.idle();
  t.is(rig.file.count(), content.digests.count);
  t.deepEqual([source.begun, source.ended], [1, 1]);
});

test('a reader waits only until the stream has passed its block', async (t) => {
  const content = randomLayer(2, SIZE);
  const source = new StreamSource([content]);
  let open = () => undefined as void;
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  source.plan = (offset) => (offset >= 2 * PIECE ? gate : undefined);
  const rig = new Rig(content, [source as unknown as FaultSource]);
  const late = rig.read(block(5 * PIECE));
  t.deepEqual(await rig.read(block(PIECE)), rig.expected(block(PIECE)));
  t.false(rig.file.has(block(2 * PIECE)));
  open();
  t.deepEqual(await late, rig.expected(block(5 * PIECE)));
  await rig.idle();
});

test('what a stream has passed and the cache has lost takes another pass', async (t) => {
  const content = randomLayer(3, SIZE);
  const source = new StreamSource([content]);
  const rig = new Rig(content, [source as unknown as FaultSource]);
  await rig.read(0);
  await rig.idle();
  rig.file.evict(7, 1);
  t.deepEqual(await rig.read(7), rig.expected(7));
  t.is(source.begun, 2);
  await rig.idle();
});

test('a stream that breaks, stalls or is damaged is begun anew', async (t) => {
  const content = randomLayer(4, SIZE);
  for (const fault of ['break', 'stall', 'damage', 'inflate'] as const) {
    const source = new StreamSource([content]);
    let left = 1;
    source.plan = async (offset, bytes, signal) => {
      if (offset < 3 * PIECE || left-- <= 0) return;
      if (fault === 'damage') bytes[10] = (bytes[10] as number) ^ 1;
      if (fault === 'break') throw new SourceError('CONNECTION_LOST', 'cut', { retryable: true });
      if (fault === 'inflate') throw new SourceError('CORRUPT', 'damaged data');
      if (fault === 'stall')
        await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    };
    const rig = new Rig(content, [source as unknown as FaultSource], { attemptTimeout: 100 });
    const places = [0, block(3 * PIECE), block(7 * PIECE)];
    const answers = await Promise.all(places.map((place) => rig.read(place)));
    t.deepEqual(
      answers,
      places.map((place) => rig.expected(place)),
      fault,
    );
    await rig.idle();
    t.is(source.begun, 2, fault);
    t.is(source.ended, 2, fault);
  }
});

test('a block that no stream has right is EIO, and the others are served', async (t) => {
  const content = randomLayer(5, SIZE);
  const source = new StreamSource([content]);
  source.plan = (offset, bytes) => {
    if (offset === PIECE) bytes[0] = (bytes[0] as number) ^ 1;
  };
  const rig = new Rig(content, [source as unknown as FaultSource]);
  const [wrong, right] = await Promise.all([rig.read(block(PIECE)), rig.read(block(2 * PIECE))]);
  t.is(wrong, EIO);
  t.deepEqual(right, rig.expected(block(2 * PIECE)));
  await rig.idle();
});

test('a reader for whom the stream is too slow gets EIO at its deadline, and the stream goes on', async (t) => {
  const content = randomLayer(6, SIZE);
  const source = new StreamSource([content]);
  let open = () => undefined as void;
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  source.plan = (offset) => (offset >= PIECE ? gate : undefined);
  const rig = new Rig(content, [source as unknown as FaultSource], { deadline: 1500 });
  const last = content.digests.count - 1;
  t.is(await rig.read(last), EIO);
  open();
  t.regex(rig.log.join('\n'), /stream has not come so far in time/);
  await rig.idle();
  t.true(rig.file.has(last));
  t.is(source.begun, 1);
});

test('a better source that is back takes over what the stream has not brought', async (t) => {
  const content = randomLayer(7, SIZE);
  const share = new FaultSource('share', [content]);
  share.plan = () => 'fail';
  const source = new StreamSource([content]);
  const rig = new Rig(content, [share, source as unknown as FaultSource]);
  let isBack = false;
  source.plan = async (offset) => {
    if (offset < 3 * PIECE) return;
    share.plan = () => 'ok';
    isBack = true;
    await sleep(20);
  };
  const places = Array.from({ length: 8 }, (_, i) => block(i * PIECE));
  const answers = await Promise.all(places.map((place) => rig.read(place)));
  t.deepEqual(
    answers,
    places.map((place) => rig.expected(place)),
  );
  t.true(isBack);
  while (!rig.states[0]?.healthy) await sleep(10);
  const present = rig.file.count();
  t.true(present < content.digests.count || source.ended === 1);
  rig.layer.stop();
  await rig.idle();
  while (source.ended < source.begun) await sleep(10);
  t.pass();
});

test('a prefetch of a layer that is a stream ends with it, and one that cannot be kept does not begin it for ever', async (t) => {
  const content = randomLayer(8, SIZE);
  const source = new StreamSource([content]);
  const rig = new Rig(content, [source as unknown as FaultSource]);
  await rig.scheduler.prefetch(rig.layer, 0, content.digests.count, { priority: 'background' });
  t.is(rig.file.count(), content.digests.count);
  await rig.idle();
  rig.file.evict(0, content.digests.count);
  rig.file.refusal = Object.assign(new Error('full'), { code: 'ENOSPC' });
  await rig.scheduler.prefetch(rig.layer, 0, content.digests.count, { priority: 'background' });
  t.is(source.begun, 2);
});

test('what nobody reads any more ends the stream', async (t) => {
  const content = randomLayer(9, SIZE);
  const source = new StreamSource([content]);
  source.plan = () => sleep(5);
  const rig = new Rig(content, [source as unknown as FaultSource]);
  await rig.read(0);
  await rig.scheduler.drop(rig.layer);
  t.true(rig.file.count() < content.digests.count);
  t.is(source.ended, 1);
});

test('a defect while blocks are put is EIO for their readers, and the stream goes on', async (t) => {
  const content = randomLayer(10, SIZE);
  const source = new StreamSource([content]);
  const rig = new Rig(content, [source as unknown as FaultSource]);
  const put = rig.file.putRun.bind(rig.file);
  let defects = 1;
  rig.file.putRun = async (first, bytes) => {
    if (first <= block(PIECE) && block(2 * PIECE) > first && first > 0 && defects-- > 0)
      throw new Error('defect');
    return put(first, bytes);
  };
  const [broken, right] = await Promise.all([rig.read(block(PIECE)), rig.read(block(3 * PIECE))]);
  t.is(broken, EIO);
  t.deepEqual(right, rig.expected(block(3 * PIECE)));
  t.regex(rig.log.join('\n'), /defect/);
  t.deepEqual(await rig.read(block(PIECE)), rig.expected(block(PIECE)));
  await rig.idle();
});
