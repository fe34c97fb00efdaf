/** zstd streams for tests, without a compressor (which Node 20 has not): RFC 8878 §3.1.1. */

function header(last: boolean, type: 0 | 1, size: number): Buffer {
  const bytes = Buffer.alloc(3);
  bytes.writeUIntLE((size << 3) | (type << 1) | (last ? 1 : 0), 0, 3);
  return bytes;
}

const MAGIC = Buffer.from('28b52ffd', 'hex');
/** Window descriptor of 128 KiB. */
const WINDOW = Buffer.from([0x38]);

/** A frame of raw blocks; one empty block when there are none. The checksum is a wrong one. */
export function rawFrame(blocks: readonly (string | Uint8Array)[], { checksum = false } = {}): Buffer {
  const contents = blocks.length === 0 ? [''] : blocks;
  return Buffer.concat([
    MAGIC,
    Buffer.from([checksum ? 4 : 0]),
    WINDOW,
    ...contents.flatMap((text, i) => [
      header(i === contents.length - 1, 0, text.length),
      Buffer.from(text as Uint8Array),
    ]),
    Buffer.from(checksum ? 'sum!' : ''),
  ]);
}

/** A frame of one block that stands for `count` (at most 128 KiB) times the same byte. */
export function rleFrame(byte: string, count: number): Buffer {
  return Buffer.concat([MAGIC, Buffer.from([0]), WINDOW, header(true, 1, count), Buffer.from(byte)]);
}

export function skippableFrame(length: number): Buffer {
  const head = Buffer.from('532a4d1800000000', 'hex');
  head.writeUInt32LE(length, 4);
  return Buffer.concat([head, Buffer.alloc(length, 'skip')]);
}

/** `zstd -19 --check` of ZSTD_TEXT. */
export const ZSTD_FIXTURE = Buffer.from(
  'KLUv/aToNAYAvAQAEsgWFZCrDRjKvsXzBN2dpOzu7p3w9O+DE7u7u6uqqqqqmpmZmZmJiIiIiHh3d3d3Z2ZmZmZWVVVVVfX////b' +
    'tm3bq4lndQNNaprELIgyIEcoHOQ8yUECIhQUoJQYR2KoIfz6/wbAMyrXEkgQ+P8RBGT4+38HJfPbbBlJUZbir9aKVZKKUyLFKIHi' +
    'k3TygrX4EDNxIYBWBVQAAAABAP3/6/S5BgJEAAAAAQD9/zkAAj0AAAABAOWUB0D+HV3U',
  'base64',
);
export const ZSTD_TEXT = Array.from(
  { length: 12_000 },
  (_, i) => `line ${i % 97} of a text that compresses\n`,
).join('');
