/** Makes eStargz blobs for tests, as the specification has them, of tar members that are given. */
import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { digestOf } from '../../src/oci/digest.js';
import { TarParser } from '../../src/tar/parser.js';
import { TAR_BLOCK_SIZE, type TarEntry } from '../../src/tar/tar.js';
import { END, member } from '../tar/archive.js';

export type JsonEntry = Record<string, unknown>;

export interface Estargz {
  blob: Buffer;
  /** Of the JSON. */
  tocDigest: string;
  tocOffset: number;
  toc: { version: number; entries: JsonEntry[] };
}

const TYPES = {
  file: 'reg',
  directory: 'dir',
  symlink: 'symlink',
  hardlink: 'hardlink',
  chardev: 'char',
  blockdev: 'block',
  fifo: 'fifo',
} as const;

/**
 * `change` may edit the table of contents before it is written; with `isOneMember`, all chunks are within one gzip
 * member, as --estargz-min-chunk-size makes them.
 */
export function estargz(
  members: readonly Uint8Array[],
  { chunkSize = 4 << 20, change = (_: JsonEntry[]) => undefined as void, isOneMember = false } = {},
): Estargz {
  const pieces: Buffer[] = [];
  const end = () => pieces.reduce((sum, { length }) => sum + length, 0);
  const put = (bytes: Uint8Array) => pieces.push(isOneMember ? Buffer.from(bytes) : gzipSync(bytes));
  const entries: JsonEntry[] = [];
  for (const bytes of members) {
    const entry = entryOf(bytes);
    const start = entry.dataOffset;
    put(bytes.subarray(0, start));
    const json = jsonOf(entry);
    entries.push(json);
    for (let at = 0; at < entry.size; at += chunkSize) {
      const length = Math.min(chunkSize, entry.size - at);
      const chunk = bytes.subarray(start + at, start + at + length);
      const isLast = at + length === entry.size;
      Object.assign(
        at === 0 ? json : (entries[entries.push({ name: entry.name, type: 'chunk' }) - 1] as JsonEntry),
        {
          ...(isOneMember ? { offset: 0, innerOffset: end() } : { offset: end() }),
          ...(at > 0 && { chunkOffset: at }),
          ...(!isLast && { chunkSize: length }),
          chunkDigest: digestOf(chunk),
        },
      );
      const padding = isLast ? -entry.size & (TAR_BLOCK_SIZE - 1) : 0;
      put(bytes.subarray(start + at, start + at + length + padding));
    }
  }
  change(entries);
  const toc = { version: 1, entries };
  const json = Buffer.from(JSON.stringify(toc));
  if (isOneMember) pieces.splice(0, pieces.length, gzipSync(Buffer.concat(pieces)));
  const tocOffset = end();
  pieces.push(gzipSync(Buffer.concat([member({ name: 'stargz.index.json' }, json), END])), footer(tocOffset));
  const tocDigest = `sha256:${createHash('sha256').update(json).digest('hex')}`;
  return { blob: Buffer.concat(pieces), tocDigest, tocOffset, toc };
}

export function footer(tocOffset: number): Buffer {
  const digits = tocOffset.toString(16).padStart(16, '0');
  return Buffer.concat([
    Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 26, 0]),
    Buffer.from(`SG\x16\0${digits}STARGZ`, 'latin1'),
    Buffer.from([1, 0, 0, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0]),
  ]);
}

function entryOf(bytes: Uint8Array): TarEntry {
  for (const event of new TarParser().push(bytes)) if (event.kind === 'entry') return event.entry;
  throw new Error('no member');
}

function jsonOf({
  type,
  name,
  linkname,
  mode,
  uid,
  gid,
  size,
  mtime,
  xattrs,
  ...device
}: TarEntry): JsonEntry {
  return {
    name: Buffer.from(name, 'latin1').toString(),
    type: TYPES[type],
    mode,
    modtime: new Date(Number(mtime / 1_000_000n)).toISOString().replace('.000', ''),
    ...(uid > 0 && { uid }),
    ...(gid > 0 && { gid }),
    ...(size > 0 && { size }),
    ...(linkname !== '' && { linkName: linkname }),
    ...(device.major > 0 && { devMajor: device.major }),
    ...(device.minor > 0 && { devMinor: device.minor }),
    ...(xattrs.size > 0 && {
      xattrs: Object.fromEntries(
        [...xattrs].map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
      ),
    }),
  };
}
