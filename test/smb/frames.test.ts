import test from 'ava';
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
