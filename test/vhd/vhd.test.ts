import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { bytesReader, ErofsError } from '../../src/erofs/reader.js';
import { type Values, viewOf } from '../../src/erofs/record.js';
import { dynamicHeader } from '../../src/vhd/dynamic.js';
import { DISK_TYPE, footer, vhdChecksum } from '../../src/vhd/footer.js';
import { fileReader, fixedFooter, openVhd, VhdError, type VhdPayload } from '../../src/vhd/vhd.js';

const ID = Buffer.alloc(16, 3);
const SECTOR = 512;
const BLOCK = 8 * SECTOR;

function open(file: Uint8Array): VhdPayload {
  return openVhd(bytesReader(file), file.length);
}

function sealFooter(record: Uint8Array, values: Partial<Values<typeof footer.fields>>): Uint8Array {
  footer.encode(viewOf(record), 0, values);
  footer.fields.checksum.set(viewOf(record), 0, vhdChecksum(record, footer.fields.checksum.offset));
  return record;
}

/** Sectors that hold their own number, except that every third one is zeros. */
function diskOf(sectors: number): Buffer {
  const disk = Buffer.alloc(sectors * SECTOR);
  for (let sector = 0; sector < sectors; sector++) {
    if (sector % 3 !== 2) disk.fill(sector + 1, sector * SECTOR, (sector + 1) * SECTOR);
  }
  return disk;
}

interface DynamicParts {
  file: Buffer;
  headerAt: number;
  tableAt: number;
}

/**
 * A dynamic VHD with blocks of 8 sectors: zero sectors are left out of the bitmaps and filled with rubbish, zero
 * blocks are left out altogether, and the blocks lie in reverse order.
 */
function dynamicVhd(disk: Buffer, header: Partial<Values<typeof dynamicHeader.fields>> = {}): DynamicParts {
  const entries = Math.ceil(disk.length / BLOCK);
  const headerAt = SECTOR;
  const tableAt = headerAt + dynamicHeader.size;
  const tableSize = Math.ceil((entries * 4) / SECTOR) * SECTOR;
  const table = Buffer.alloc(tableSize, 0xff);
  const blocks: Buffer[] = [];
  let sector = (tableAt + tableSize) / SECTOR;
  for (let block = entries - 1; block >= 0; block--) {
    const bitmap = Buffer.alloc(SECTOR);
    const data = Buffer.alloc(BLOCK, 0xee);
    for (let index = 0; index < 8; index++) {
      const at = block * BLOCK + index * SECTOR;
      const bytes = disk.subarray(at, at + SECTOR);
      if (bytes.every((byte) => byte === 0)) continue;
      bytes.copy(data, index * SECTOR);
      bitmap[0] = (bitmap[0] as number) | (0x80 >> index);
    }
    if (bitmap[0] === 0) continue;
    table.writeUInt32BE(sector, block * 4);
    blocks.push(bitmap, data);
    sector += 1 + BLOCK / SECTOR;
  }
  const record = new Uint8Array(dynamicHeader.size);
  dynamicHeader.encode(viewOf(record), 0, {
    cookie: Buffer.from('cxsparse'),
    dataOffset: -1n,
    tableOffset: BigInt(tableAt),
    headerVersion: 0x10000,
    tableEntries: entries,
    blockSize: BLOCK,
    ...header,
  });
  dynamicHeader.fields.checksum.set(
    viewOf(record),
    0,
    vhdChecksum(record, dynamicHeader.fields.checksum.offset),
  );
  const copy = sealFooter(fixedFooter(disk.length, ID), {
    dataOffset: BigInt(headerAt),
    diskType: DISK_TYPE.dynamic,
  });
  return { file: Buffer.concat([copy, record, table, ...blocks, copy]), headerAt, tableAt };
}

test('the payload of a fixed VHD is the file without its footer', (t) => {
  const disk = diskOf(20);
  const payload = open(Buffer.concat([disk, fixedFooter(disk.length, ID)]));
  t.is(payload.kind, 'fixed');
  t.is(payload.size, disk.length);
  t.true(disk.equals(payload.readAt(0, disk.length)));
  t.throws(() => payload.readAt(disk.length - 1, 2), { instanceOf: ErofsError, code: 'TRUNCATED' });
  t.throws(() => payload.readAt(-1, 1), { instanceOf: ErofsError, code: 'TRUNCATED' });
});

test('any range of a dynamic VHD is read, absent blocks and sectors as zeros', (t) => {
  const disk = diskOf(37);
  disk.fill(0, 2 * BLOCK, 3 * BLOCK);
  const payload = open(dynamicVhd(disk).file);
  t.is(payload.kind, 'dynamic');
  t.is(payload.size, disk.length);
  for (let offset = 0; offset < disk.length; offset += 333) {
    for (const length of [0, 1, 511, 512, 700, 4096, 9000]) {
      const end = Math.min(offset + length, disk.length);
      t.true(
        disk.subarray(offset, end).equals(payload.readAt(offset, end - offset)),
        `${length} at ${offset}`,
      );
    }
  }
  t.throws(() => payload.readAt(disk.length, 1), { code: 'TRUNCATED' });
});

test('a dynamic VHD without blocks is all zeros', (t) => {
  const payload = open(dynamicVhd(Buffer.alloc(3 * BLOCK)).file);
  t.true(payload.readAt(0, 3 * BLOCK).every((byte) => byte === 0));
});

const SHOULD_FAIL: Readonly<Record<string, [code: VhdError['code'], file: () => Uint8Array]>> = {
  'an-empty-file': ['NOT_VHD', () => new Uint8Array(0)],
  'no-footer': ['NOT_VHD', () => Buffer.alloc(4096)],
  'a-footer-with-a-flipped-bit': [
    'CORRUPT',
    () => {
      const record = fixedFooter(0, ID);
      record[50] = 1;
      return record;
    },
  ],
  'a-payload-cut-short': ['TRUNCATED', () => Buffer.concat([diskOf(3), fixedFooter(4 * SECTOR, ID)])],
  'a-differencing-disk': [
    'UNSUPPORTED',
    () => sealFooter(fixedFooter(0, ID), { diskType: DISK_TYPE.differencing }),
  ],
  'an-unknown-disk-type': ['UNSUPPORTED', () => sealFooter(fixedFooter(0, ID), { diskType: 77 })],
  'a-disk-of-2-to-60-bytes': ['CORRUPT', () => sealFooter(fixedFooter(0, ID), { currentSize: 2 ** 60 })],
  'a-dynamic-disk-cut-short': ['TRUNCATED', () => dynamicVhd(diskOf(20)).file.subarray(0, -600)],
  'a-dynamic-header-beyond-the-end': [
    'TRUNCATED',
    () => sealFooter(fixedFooter(0, ID), { diskType: DISK_TYPE.dynamic, dataOffset: 2n ** 62n }),
  ],
  'a-dynamic-header-before-the-start': [
    'TRUNCATED',
    () => sealFooter(fixedFooter(0, ID), { diskType: DISK_TYPE.dynamic, dataOffset: -2n }),
  ],
  'no-dynamic-header': ['CORRUPT', () => dynamicVhd(diskOf(20), { cookie: Buffer.from('nonsense') }).file],
  'a-dynamic-header-with-a-flipped-bit': [
    'CORRUPT',
    () => {
      const { file, headerAt } = dynamicVhd(diskOf(20));
      file[headerAt + 100] = 1;
      return file;
    },
  ],
  'blocks-of-no-power-of-two': ['CORRUPT', () => dynamicVhd(diskOf(20), { blockSize: 1000 }).file],
  'blocks-of-2-gib': ['CORRUPT', () => dynamicVhd(diskOf(20), { blockSize: 2 ** 31 }).file],
  'a-table-too-short-for-the-disk': ['CORRUPT', () => dynamicVhd(diskOf(20), { tableEntries: 2 }).file],
  'a-table-beyond-the-end': ['TRUNCATED', () => dynamicVhd(diskOf(20), { tableOffset: 1n << 40n }).file],
  'a-block-beyond-the-end': [
    'TRUNCATED',
    () => {
      const { file, tableAt } = dynamicVhd(diskOf(20));
      file.writeUInt32BE(0x7fffffff, tableAt);
      return file;
    },
  ],
  'two-blocks-in-one-place': [
    'CORRUPT',
    () => {
      const { file, tableAt } = dynamicVhd(diskOf(20));
      file.copy(file, tableAt + 4, tableAt, tableAt + 4);
      return file;
    },
  ],
};

for (const [name, [code, file]] of Object.entries(SHOULD_FAIL)) {
  test(`should-fail-${name}`, (t) => {
    t.throws(() => open(file()), { instanceOf: VhdError, code });
  });
}

test('a file is read through its pages and beyond them', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'orca-file-reader-'));
  const path = join(directory, 'file');
  const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 31) % 257));
  writeFileSync(path, bytes);
  const fd = openSync(path, 'r');
  const readAt = fileReader(fd);
  for (const [offset, length] of [
    [0, 10],
    [65_530, 12],
    [65_536, 65_536],
    [1, 299_999],
    [299_999, 1],
    [300_000, 0],
  ] as const) {
    t.true(bytes.subarray(offset, offset + length).equals(readAt(offset, length)), `${length} at ${offset}`);
  }
  t.throws(() => readAt(299_999, 2), { instanceOf: ErofsError, code: 'TRUNCATED' });
  t.throws(() => readAt(-1, 1), { code: 'TRUNCATED' });
  t.throws(() => readAt(Number.NaN, 1), { code: 'TRUNCATED' });
  closeSync(fd);
  rmSync(directory, { recursive: true });
});
