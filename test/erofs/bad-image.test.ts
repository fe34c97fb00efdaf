/**
 * Images that no reader may accept, each made of a sound one by the change that its name tells. What a fuzzer
 * found is kept here, too.
 */
import test from 'ava';
import {
  chunkIndex,
  compactInode,
  dirent,
  extendedInode,
  FEATURE_INCOMPAT,
  SUPERBLOCK_OFFSET,
  superblock,
  superblockChecksum,
  xattrEntry,
} from '../../src/erofs/format.js';
import { bytesReader, ErofsError, ErofsImage, readTree } from '../../src/erofs/reader.js';
import { type Values, viewOf } from '../../src/erofs/record.js';
import { BLOCK_SIZE, type Inode } from '../../src/erofs/tree.js';
import { DEVICES, directory, file, flatFile, imageOf, symlink } from './tree-arbitrary.js';

/** A sound image whose parts can be found and changed. */
class Patient {
  readonly bytes: Buffer;
  readonly view: DataView;
  private readonly image: ErofsImage;

  constructor(children: Record<string, Inode>) {
    this.bytes = imageOf(directory(children), { devices: DEVICES });
    this.view = viewOf(this.bytes);
    this.image = ErofsImage.open(bytesReader(this.bytes), this.bytes.length);
  }

  nid(name: string): number {
    if (name === '/') return this.image.rootNid;
    const entry = this.image.entries(this.image.rootNid).find((candidate) => candidate.name === name);
    return entry?.nid ?? Number.NaN;
  }

  /** Byte offset of the inode of a name in the root, or of `/`. */
  inodeAt(name: string): number {
    return this.image.inode(this.nid(name)).xattrsAt - extendedInode.size;
  }

  patchInode(name: string, values: Partial<Values<typeof extendedInode.fields>>): void {
    extendedInode.encode(this.view, this.inodeAt(name), values);
  }

  /** Byte offset of what follows an inode that has no xattrs. */
  behind(name: string): number {
    return this.inodeAt(name) + extendedInode.size;
  }

  /** Changes the root's dirent number `index`, `.` and `..` included. */
  patchDirent(index: number, values: Partial<Values<typeof dirent.fields>>): void {
    dirent.encode(this.view, this.behind('/') + index * dirent.size, values);
  }

  patchSuperblock(values: Partial<Values<typeof superblock.fields>>): void {
    superblock.encode(this.view, SUPERBLOCK_OFFSET, { ...values, checksum: 0 });
    const checksum = superblockChecksum(this.bytes.subarray(SUPERBLOCK_OFFSET, BLOCK_SIZE));
    superblock.encode(this.view, SUPERBLOCK_OFFSET, { checksum });
  }
}

function standard(): Patient {
  return new Patient({
    'a-directory': directory({ inside: file(0) }),
    'b-file': flatFile(5000, 1),
    'c-sparse': file(9 * BLOCK_SIZE, [{ fileOffset: BLOCK_SIZE, device: 1, block: 1, blocks: 1 }]),
    'd-link': symlink('target'),
    f1: file(0),
    f2: file(0),
    'e-xattrs': file(0, [], {
      xattrs: new Map([
        ['user.name', Buffer.from('value')],
        ['user.also', Buffer.of()],
      ]),
    }),
  });
}

const LAYOUT_SHIFT = 1;

const SHOULD_FAIL: Readonly<
  Record<string, [code: ErofsError['code'], harm: (patient: Patient) => Uint8Array | void]>
> = {
  'an-empty-file': ['TRUNCATED', () => new Uint8Array(0)],
  'cut-within-the-superblock': ['TRUNCATED', ({ bytes }) => bytes.subarray(0, 1100)],
  'cut-behind-the-superblock': ['TRUNCATED', ({ bytes }) => bytes.subarray(0, BLOCK_SIZE)],
  'cut-within-the-metadata': ['TRUNCATED', ({ bytes }) => bytes.subarray(0, bytes.length - BLOCK_SIZE)],
  'no-magic': ['CORRUPT', (patient) => patient.patchSuperblock({ magic: 0 })],
  'a-wrong-checksum': ['CORRUPT', ({ bytes }) => void (bytes[1024 + 60] = 1)],
  'blocks-of-512-bytes': ['UNSUPPORTED', (patient) => patient.patchSuperblock({ blockBits: 9 })],
  'blocks-of-2-to-255-bytes': ['UNSUPPORTED', (patient) => patient.patchSuperblock({ blockBits: 255 })],
  'large-directory-blocks': ['UNSUPPORTED', (patient) => patient.patchSuperblock({ directoryBlockBits: 1 })],
  'an-unknown-feature': [
    'UNSUPPORTED',
    (patient) => patient.patchSuperblock({ featureIncompat: 0x80000000 }),
  ],
  '48-bit-addresses': [
    'UNSUPPORTED',
    (patient) => patient.patchSuperblock({ featureIncompat: FEATURE_INCOMPAT.fortyEightBit }),
  ],
  'a-device-table-beyond-the-end': [
    'TRUNCATED',
    (patient) => patient.patchSuperblock({ deviceTableSlot: 0xffff }),
  ],
  'more-devices-than-bytes': ['TRUNCATED', (patient) => patient.patchSuperblock({ devices: 0xffff })],
  'metadata-beyond-the-end': ['TRUNCATED', (patient) => patient.patchSuperblock({ metaBlock: 0xffffffff })],
  'a-root-beyond-the-end': ['TRUNCATED', (patient) => patient.patchSuperblock({ rootNid: 0xffff })],
  'a-root-that-is-a-file': [
    'CORRUPT',
    (patient) => patient.patchSuperblock({ rootNid: patient.nid('b-file') }),
  ],
  'a-reserved-format-bit': ['UNSUPPORTED', (patient) => patient.patchInode('b-file', { format: 0x11 })],
  'an-unknown-layout': [
    'UNSUPPORTED',
    (patient) => patient.patchInode('b-file', { format: 1 | (5 << LAYOUT_SHIFT) }),
  ],
  'a-compressed-file': [
    'UNSUPPORTED',
    (patient) => patient.patchInode('b-file', { format: 1 | (3 << LAYOUT_SHIFT) }),
  ],
  'a-fully-compressed-file': [
    'UNSUPPORTED',
    (patient) => patient.patchInode('b-file', { format: 1 | (1 << LAYOUT_SHIFT) }),
  ],
  'a-compressed-directory': [
    'UNSUPPORTED',
    (patient) => patient.patchInode('/', { format: 1 | (3 << LAYOUT_SHIFT) }),
  ],
  'a-mode-without-type': ['CORRUPT', (patient) => patient.patchInode('b-file', { mode: 0o644 })],
  'a-size-of-2-to-60': ['CORRUPT', (patient) => patient.patchInode('b-file', { size: 2 ** 60 })],
  'a-file-beyond-the-end': ['TRUNCATED', (patient) => patient.patchInode('b-file', { location: 0xffffff00 })],
  'a-file-that-ends-beyond-the-end': [
    'TRUNCATED',
    (patient) => patient.patchInode('b-file', { size: 2 ** 40 }),
  ],
  'inline-data-across-blocks': [
    'CORRUPT',
    (patient) => patient.patchInode('d-link', { format: 1 | (2 << LAYOUT_SHIFT), size: 4095 }),
  ],
  'a-directory-of-2-to-50-bytes': ['TRUNCATED', (patient) => patient.patchInode('/', { size: 2 ** 50 })],
  'a-directory-of-no-bytes-in-a-block': [
    'TRUNCATED',
    (patient) => patient.patchInode('/', { format: 1, location: 0xfffffff0 }),
  ],
  'a-directory-without-a-whole-dirent': ['CORRUPT', (patient) => patient.patchInode('/', { size: 5 })],
  'a-directory-of-zeros': [
    'CORRUPT',
    (patient) => patient.patchInode('/', { format: 1 | (4 << LAYOUT_SHIFT), size: 4096, location: 0x20 }),
  ],
  'a-chunk-format-that-is-reserved': [
    'UNSUPPORTED',
    (patient) => patient.patchInode('c-sparse', { location: 0x40 }),
  ],
  'a-chunk-table-beyond-the-end': [
    'TRUNCATED',
    (patient) => patient.patchInode('c-sparse', { size: 2 ** 45 }),
  ],
  'a-chunk-beyond-its-device': [
    'TRUNCATED',
    (patient) =>
      chunkIndex.encode(patient.view, patient.behind('c-sparse') + chunkIndex.size, { block: 1000 }),
  ],
  'a-chunk-on-no-device': [
    'TRUNCATED',
    (patient) => chunkIndex.encode(patient.view, patient.behind('c-sparse') + chunkIndex.size, { device: 3 }),
  ],
  'a-first-name-offset-of-0': ['CORRUPT', (patient) => patient.patchDirent(0, { nameOffset: 0 })],
  'a-first-name-offset-within-a-dirent': ['CORRUPT', (patient) => patient.patchDirent(0, { nameOffset: 13 })],
  'a-first-name-offset-beyond-the-block': [
    'CORRUPT',
    (patient) => patient.patchDirent(0, { nameOffset: 12000 }),
  ],
  'a-name-offset-that-goes-back': ['CORRUPT', (patient) => patient.patchDirent(2, { nameOffset: 1 })],
  'a-name-offset-beyond-the-block': ['CORRUPT', (patient) => patient.patchDirent(2, { nameOffset: 0xffff })],
  'an-inode-beyond-the-end': ['TRUNCATED', (patient) => patient.patchDirent(3, { nid: 2 ** 40 })],
  'an-inode-of-2-to-63': ['TRUNCATED', (patient) => patient.patchDirent(3, { nid: 2 ** 63 })],
  'a-directory-in-itself': ['CORRUPT', (patient) => patient.patchDirent(2, { nid: patient.nid('/') })],
  'a-directory-linked-twice': [
    'CORRUPT',
    (patient) => patient.patchDirent(3, { nid: patient.nid('a-directory') }),
  ],
  'names-out-of-order': ['CORRUPT', ({ bytes }) => void bytes.write('f2f1', bytes.indexOf('f1f2'), 'latin1')],
  'a-name-twice': ['CORRUPT', ({ bytes }) => void bytes.write('f1f1', bytes.indexOf('f1f2'), 'latin1')],
  'a-name-with-a-slash': [
    'CORRUPT',
    ({ bytes }) => void bytes.write('/', bytes.indexOf('-directory'), 'latin1'),
  ],
  'a-name-with-a-nul': [
    'CORRUPT',
    ({ bytes }) => void bytes.write('\0', bytes.indexOf('-directory'), 'latin1'),
  ],
  'an-empty-link-target': ['CORRUPT', (patient) => patient.patchInode('d-link', { size: 0 })],
  'a-link-target-of-4096-bytes': [
    'CORRUPT',
    (patient) => patient.patchInode('d-link', { format: 1, size: 4096, location: 1 }),
  ],
  'a-link-target-with-a-nul': [
    'CORRUPT',
    ({ bytes }) => void bytes.write('\0', bytes.indexOf('target'), 'latin1'),
  ],
  'xattrs-beyond-the-end': ['TRUNCATED', (patient) => patient.patchInode('e-xattrs', { xattrCount: 0xffff })],
  'a-xattr-name-beyond-the-area': [
    'TRUNCATED',
    (patient) => xattrEntry.encode(patient.view, patient.behind('e-xattrs') + 12, { nameLength: 255 }),
  ],
  'a-xattr-value-beyond-the-area': [
    'TRUNCATED',
    (patient) => xattrEntry.encode(patient.view, patient.behind('e-xattrs') + 12, { valueLength: 0xffff }),
  ],
  'a-xattr-of-no-namespace': [
    'UNSUPPORTED',
    (patient) => xattrEntry.encode(patient.view, patient.behind('e-xattrs') + 12, { nameIndex: 0 }),
  ],
  'a-xattr-with-a-long-prefix': [
    'UNSUPPORTED',
    (patient) => xattrEntry.encode(patient.view, patient.behind('e-xattrs') + 12, { nameIndex: 0x81 }),
  ],
  'a-xattr-twice': ['CORRUPT', ({ bytes }) => void bytes.write('name', bytes.indexOf('also'), 'latin1')],
  'a-shared-xattr-beyond-the-end': [
    'TRUNCATED',
    (patient) => {
      const at = patient.behind('e-xattrs');
      patient.bytes[at + 4] = 1;
      patient.bytes.writeUInt32LE(0xffffffff, at + 12);
    },
  ],
  'more-shared-xattrs-than-the-area-holds': [
    'TRUNCATED',
    (patient) => void (patient.bytes[patient.behind('e-xattrs') + 4] = 255),
  ],
};

for (const [name, [code, harm]] of Object.entries(SHOULD_FAIL)) {
  test(`should-fail-${name}`, (t) => {
    const patient = standard();
    const bytes = harm(patient) ?? patient.bytes;
    t.throws(() => readTree(ErofsImage.open(bytesReader(bytes), bytes.length)), {
      instanceOf: ErofsError,
      code,
    });
  });
}

test('the image that the bad ones are made of is sound', (t) => {
  const { bytes } = standard();
  t.is(readTree(ErofsImage.open(bytesReader(bytes), bytes.length)).children.size, 7);
});

test('should-fail-directories-that-share-their-blocks: a small image may not ask for much memory', (t) => {
  // 2,000 directories of 1,000 names each, all in the same blocks: a hundred thousand bytes, two million names.
  const names = Object.fromEntries(Array.from({ length: 1000 }, (_, index) => [`name-${index}`, file(0)]));
  const children: Record<string, Inode> = { '0': directory(names) };
  for (let index = 1; index <= 2000; index++) children[`d${index}`] = directory({});
  const patient = new Patient(children);
  const { size, location } = extendedInode.decode(patient.view, patient.inodeAt('0'));
  for (let index = 1; index <= 2000; index++) {
    // A whole number of blocks, so that none of it is behind the inode.
    patient.patchInode(`d${index}`, { format: 1, size: size - (size % BLOCK_SIZE), location });
  }
  const open = () => readTree(ErofsImage.open(bytesReader(patient.bytes), patient.bytes.length));
  t.throws(open, { instanceOf: ErofsError, code: 'CORRUPT', message: /is that of others, too/ });
});

test('compact inodes have the build time, and 16 bits of everything', (t) => {
  const patient = standard();
  const at = patient.inodeAt('b-file');
  patient.bytes.fill(0, at, at + extendedInode.size);
  compactInode.encode(patient.view, at, {
    mode: 0o100600,
    nlink: 3,
    size: 4096,
    location: 1,
    uid: 65535,
    gid: 1,
  });
  patient.patchSuperblock({ buildTime: 5n, buildTimeNs: 7 });
  const image = ErofsImage.open(bytesReader(patient.bytes), patient.bytes.length);
  const inode = image.inode(patient.nid('b-file'));
  t.like(inode, { mode: 0o600, nlink: 3, size: 4096, uid: 65535, gid: 1, mtime: 5_000_000_007n });
});
