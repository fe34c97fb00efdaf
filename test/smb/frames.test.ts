import test from 'ava';
import { FramePool, type Slab } from '../../src/smb/frame-pool.js';
import { encodeFrame, FrameReader } from '../../src/smb/frames.js';
import { random } from './random.js';

/** Feeds `wire` in pieces of at most `step()` bytes and gives the frames, kept or copied as `keep` says. */
function feed(wire: Buffer, limit: number, step: () => number, keep: (frame: Buffer) => boolean): Buffer[] {
  const frames: Buffer[] = [];
  const reader = new FrameReader(limit, (frame) => {
    const kept = keep(frame);
    frames.push(kept ? frame : Buffer.from(frame));
    return kept;
  });
  for (let at = 0; at < wire.length; ) {
    const target = reader.target();
    const count = Math.min(target.length, step(), wire.length - at);
    wire.copy(target, 0, at, at + count);
    at += count;
    reader.received(count);
  }
  return frames;
}

test('frames come out whole however the bytes arrive', (t) => {
  const { seed, below, bytes } = random();
  t.log(`seed ${seed}`);
  const sent = Array.from({ length: 200 }, () => bytes(1 + below(below(2) ? 300 : 90_000)));
  const wire = Buffer.concat(sent.map(encodeFrame));
  for (const step of [() => 1 << 20, () => 1 + below(70_000), () => 1 + below(7)]) {
    const limited = step() < 8 ? 40 : sent.length;
    const part = limited === sent.length ? wire : Buffer.concat(sent.slice(0, limited).map(encodeFrame));
    for (const keep of [() => true, () => false, (frame: Buffer) => frame.length > 1000]) {
      const frames = feed(part, 100_000, step, keep);
      t.is(frames.length, limited);
      t.true(frames.every((frame, i) => frame.equals(sent[i]!)));
    }
  }
});

test('memory that is given back is used again, and never while somebody holds a frame in it', (t) => {
  const { seed, below, bytes } = random();
  t.log(`seed ${seed}`);
  const freed = new Set<Buffer>();
  const pool = new FramePool((buffer) => {
    freed.add(buffer);
    buffer.fill(0xdb);
  });
  const sent = Array.from({ length: 300 }, () => bytes(1 + below(60_000)));
  const held: { frame: Buffer; number: number }[] = [];
  const slabs = new Set<ArrayBufferLike>();
  let number = 0;
  let lent = 0;
  let intact = 0;
  const giveBack = () => {
    const [{ frame, number: which }] = held.splice(below(held.length), 1) as [(typeof held)[0]];
    if (frame.equals(sent[which]!)) intact += 1;
    pool.giveBack(frame);
    // Again, and what was never lent.
    pool.giveBack(frame);
    pool.giveBack(sent[which]!);
  };
  const onFrame = (frame: Buffer, slab: Slab): boolean => {
    const which = number++;
    slabs.add(slab.buffer.buffer);
    if (below(4) === 0) {
      t.true(frame.equals(sent[which]!));
      return false;
    }
    const message = frame.subarray(0);
    pool.lend(message, slab);
    pool.pass(message, frame);
    pool.giveBack(message);
    lent += 1;
    held.push({ frame, number: which });
    while (held.length > 8 || (held.length > 0 && below(3) === 0)) giveBack();
    return true;
  };
  const reader = new FrameReader(60_000, onFrame, pool);
  const wire = Buffer.concat(sent.map(encodeFrame));
  for (let at = 0; at < wire.length; ) {
    const target = reader.target();
    const count = Math.min(target.length, 1 + below(90_000), wire.length - at);
    wire.copy(target, 0, at, at + count);
    at += count;
    reader.received(count);
  }
  while (held.length > 0) giveBack();
  t.is(number, sent.length);
  t.is(intact, lent, 'frames are held as they came');
  t.true(freed.size > 0 && slabs.size <= 12, `${slabs.size} buffers for ${sent.length} frames`);
});

test('a frame that is kept for good keeps its buffer from being used again', (t) => {
  let freed = 0;
  const pool = new FramePool(() => {
    freed += 1;
  });
  const frames: Buffer[] = [];
  const reader = new FrameReader(1000, (frame) => frames.push(frame) > 0, pool);
  const wire = Buffer.concat(Array.from({ length: 500 }, (_, i) => encodeFrame(Buffer.alloc(900, i))));
  for (let at = 0; at < wire.length; ) {
    const count = wire.copy(reader.target(), 0, at);
    at += count;
    reader.received(count);
  }
  t.is(freed, 0);
  t.true(frames.every((frame, i) => frame.equals(Buffer.alloc(900, i))));
});

test('a limit that is raised lets longer frames through, and never moves what the socket is writing to', (t) => {
  const frames: Buffer[] = [];
  const reader = new FrameReader(1000, (frame) => frames.push(Buffer.from(frame)) > 1e9);
  const wire = encodeFrame(Buffer.alloc(500_000, 7));
  const before = reader.target();
  reader.setLimit(600_000);
  wire.copy(before, 0, 0, 10);
  reader.received(10);
  for (let at = 10; at < wire.length; ) {
    const count = wire.copy(reader.target(), 0, at);
    at += count;
    reader.received(count);
  }
  t.is(frames[0]?.length, 500_000);
});

for (const [what, prefix] of [
  ['of zero bytes', '00000000'],
  ['beyond the limit', '00000401'],
  ['of another protocol', '48545450'],
  ['of a NetBIOS keepalive', '85000000'],
] as const) {
  test(`a frame ${what} is a protocol error`, (t) => {
    const reader = new FrameReader(1024, () => false);
    Buffer.from(prefix, 'hex').copy(reader.target());
    t.throws(() => reader.received(4), { code: 'PROTOCOL' });
  });
}
