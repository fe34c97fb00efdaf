import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { SmbError } from '../../src/smb/error.js';
import { random } from './random.js';
import { SAMPLES, type Sample } from './samples.js';

const ROUNDS = 3000;
const EXTREMES = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];

/** Decoding may succeed or throw PROTOCOL; anything else is a bug. */
function total(t: ExecutionContext, sample: Sample, bytes: Buffer): void {
  try {
    sample.decode(bytes);
  } catch (error) {
    if (error instanceof SmbError && error.code === 'PROTOCOL') return;
    t.log(`${sample.name}: ${bytes.toString('hex')}`);
    throw error;
  }
}

for (const sample of SAMPLES) {
  test(`${sample.name}: the specimen decodes, and cut short at any byte it never does worse than PROTOCOL`, (t) => {
    t.notThrows(() => sample.decode(Buffer.from(sample.bytes)));
    for (let length = 0; length < sample.bytes.length; length++)
      total(t, sample, Buffer.from(sample.bytes.subarray(0, length)));
  });

  test(`${sample.name}: no mutation gets anything but a value or PROTOCOL out of the decoder`, (t) => {
    const { seed, below, bytes } = random();
    t.log(`seed ${seed}`);
    for (let round = 0; round < ROUNDS; round++) {
      let mutant = Buffer.from(sample.bytes);
      for (let n = 1 + below(4); n > 0; n--) {
        const at = below(mutant.length);
        const kind = below(6);
        if (kind === 0) mutant[at] = below(256);
        else if (kind === 1) mutant[at]! ^= 1 << below(8);
        else if (kind === 2 && at + 2 <= mutant.length) mutant.writeUInt16LE(EXTREMES[below(8)]!, at);
        else if (kind === 3 && at + 4 <= mutant.length)
          mutant.writeUInt32LE(EXTREMES[below(EXTREMES.length)]!, at);
        else if (kind === 4) mutant = mutant.subarray(0, Math.max(1, at));
        else mutant = Buffer.concat([mutant.subarray(0, at), bytes(below(20)), mutant.subarray(at)]);
      }
      total(t, sample, mutant);
    }
    t.pass();
  });

  test(`${sample.name}: arbitrary bytes behind an intact beginning are decoded or refused`, (t) => {
    fc.assert(
      fc.property(fc.nat(sample.bytes.length), fc.uint8Array({ maxLength: 200 }), (keep, rest) => {
        total(t, sample, Buffer.concat([sample.bytes.subarray(0, keep), rest]));
      }),
      { numRuns: 300 },
    );
    t.pass();
  });
}
