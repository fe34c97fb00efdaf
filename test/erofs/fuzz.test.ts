/** Mutated images end in a tree or in an ErofsError, whatever is changed. */
import test from 'ava';
import { SUPERBLOCK_OFFSET, superblock, superblockChecksum } from '../../src/erofs/format.js';
import { bytesReader, ErofsError, ErofsImage, readTree } from '../../src/erofs/reader.js';
import { viewOf } from '../../src/erofs/record.js';
import { BLOCK_SIZE, type Inode, type RegularFile } from '../../src/erofs/tree.js';
import { DATA_BLOCKS, DEVICES, directory, imageOf, sampleTree } from './tree-arbitrary.js';

const SEED = Number(process.env.ORCA_TEST_SEED ?? Date.now() % 2 ** 31);
const RUNS = 4000;

/** Deterministic integers in [0, limit) (mulberry32). */
function generator(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  };
}

/** The sample tree without what makes it large. */
function smallTree() {
  const root = sampleTree();
  const linked = root.children.get('linked') as Inode;
  root.children.set(
    'numbered',
    directory(Object.fromEntries(Array.from({ length: 150 }, (_, n) => [`n${n}`, linked]))),
  );
  root.children.delete('n'.repeat(255));
  root.children.delete('longest link');
  return root;
}

const INTERESTING = [0, 1, 0x7f, 0x80, 0xff];

test(`mutated images are refused or read, but nothing else happens (seed ${SEED})`, (t) => {
  const next = generator(SEED);
  const image = imageOf(smallTree(), { devices: DEVICES });
  const metadata = (1 + DATA_BLOCKS) * BLOCK_SIZE;
  let refused = 0;
  for (let run = 0; run < RUNS; run++) {
    const bytes = Buffer.from(image);
    for (let change = next(8); change >= 0; change--) {
      // One change in eight is in the superblock, whose checksum is then made right.
      const at = next(8) === 0 ? SUPERBLOCK_OFFSET + next(128) : metadata + next(bytes.length - metadata);
      bytes[at] = next(2) === 0 ? next(256) : (INTERESTING[next(INTERESTING.length)] as number);
    }
    bytes.writeUInt32LE(0, SUPERBLOCK_OFFSET + superblock.fields.checksum.offset);
    const checksum = superblockChecksum(bytes.subarray(SUPERBLOCK_OFFSET, BLOCK_SIZE));
    superblock.fields.checksum.set(viewOf(bytes), SUPERBLOCK_OFFSET, checksum);
    const length = next(10) === 0 ? next(bytes.length) : bytes.length;
    try {
      const opened = ErofsImage.open(bytesReader(bytes.subarray(0, length)), length);
      const inline = new Map<RegularFile, number>();
      readTree(opened, { inline });
      for (const nid of inline.values()) opened.readFile(nid, 0, 10_000);
    } catch (error) {
      if (!(error instanceof ErofsError)) {
        throw new Error(`seed ${SEED}, run ${run}: ${error}`, { cause: error });
      }
      refused++;
    }
  }
  t.true(refused > RUNS / 10 && refused < RUNS, `${refused} of ${RUNS} refused`);
});
