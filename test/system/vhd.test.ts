/** What qemu-img and mount(8) make of our VHDs, and what we make of those of qemu-img. */
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { fileReader, fixedFooter, openVhd, VhdError } from '../../src/vhd/vhd.js';
import { run } from './command.js';

const MIB = 1 << 20;

function workDirectory(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'orca-vhd-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Bytes that differ from sector to sector, with runs of zeros that a dynamic disk leaves out. */
function diskOf(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at + 512 <= size; at += 512) {
    const isHole = Math.floor(at / (3 * MIB)) % 2 === 1;
    if (!isHole) bytes.writeUInt32LE(at + 1, at + (at % 500));
  }
  return bytes;
}

test('qemu-img takes a fixed VHD of any size for what it is, to the byte', async (t) => {
  const directory = workDirectory(t);
  const path = join(directory, 'fixed.vhd');
  for (const size of [4096, 8192, 69 * 4096, 5 * MIB + 4096, 40 * MIB + 512]) {
    const disk = diskOf(size);
    writeFileSync(path, Buffer.concat([disk, fixedFooter(size, Buffer.alloc(16, 5))]));
    const info = JSON.parse(await run('qemu-img', ['info', '-f', 'vpc', '--output=json', path]));
    t.is(info['virtual-size'], size);
    await run('qemu-img', ['convert', '-f', 'vpc', '-O', 'raw', path, `${path}.raw`]);
    t.true(readFileSync(`${path}.raw`).equals(disk), `${size} bytes`);
  }
});

for (const subformat of ['fixed', 'dynamic'] as const) {
  for (const forceSize of ['on', 'off']) {
    test(`a ${subformat} VHD of qemu-img is read (force_size=${forceSize})`, async (t) => {
      const directory = workDirectory(t);
      const disk = diskOf(20 * MIB + 4096);
      const raw = join(directory, 'raw');
      const path = join(directory, 'disk.vhd');
      writeFileSync(raw, disk);
      const options = `subformat=${subformat},force_size=${forceSize}`;
      await run('qemu-img', ['convert', '-f', 'raw', '-O', 'vpc', '-o', options, raw, path]);
      const info = JSON.parse(await run('qemu-img', ['info', '-f', 'vpc', '--output=json', path]));
      const fd = openSync(path, 'r');
      t.teardown(() => closeSync(fd));
      const payload = openVhd(fileReader(fd), fstatSync(fd).size);
      t.is(payload.kind, subformat);
      t.is(payload.size, info['virtual-size']);
      for (const length of [1000, 70_000, 3 * MIB, disk.length]) {
        for (let at = 0; at + length <= disk.length; at += Math.max(length, MIB - 7)) {
          t.true(
            disk.subarray(at, at + length).equals(payload.readAt(at, length)),
            `${length} bytes at ${at}`,
          );
        }
      }
      t.true(payload.readAt(disk.length, payload.size - disk.length).every((byte) => byte === 0));
      t.throws(() => payload.readAt(payload.size - 1, 2), { code: 'TRUNCATED' });
    });
  }
}

test('a file that is no VHD is told apart', async (t) => {
  const directory = workDirectory(t);
  const path = join(directory, 'raw');
  writeFileSync(path, diskOf(MIB));
  const fd = openSync(path, 'r');
  t.throws(() => openVhd(fileReader(fd), MIB), { instanceOf: VhdError, code: 'NOT_VHD' });
  closeSync(fd);
});
