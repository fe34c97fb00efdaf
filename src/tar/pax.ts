/**
 * Extended headers: records `LENGTH KEY=VALUE\n` (POSIX.1-2017 pax, "pax Extended Header"). Values stay bytes,
 * since names need not be UTF-8 and xattrs are not text.
 */
import type { ByteString } from '../erofs/tree.js';
import { latin1 } from './header.js';
import { type SparseSegment, TarError } from './tar.js';

export interface PaxHeader {
  /** The last value of each key. */
  values: Map<ByteString, Uint8Array>;
  /** The map of GNU sparse format 0.0, which repeats its keys. */
  segments: SparseSegment[];
}

/** Digits of the length of a record; 2^64 has 20. */
const MAX_LENGTH_DIGITS = 20;

export function parsePax(bytes: Uint8Array): PaxHeader {
  const header: PaxHeader = { values: new Map(), segments: [] };
  let position = 0;
  while (position < bytes.length) {
    const space = bytes.subarray(position, position + MAX_LENGTH_DIGITS + 1).indexOf(0x20);
    const length = space < 0 ? 0 : decimal(bytes.subarray(position, position + space));
    const end = position + length;
    const key = position + space + 1;
    const equals = bytes.indexOf(0x3d, key);
    if (
      space <= 0 ||
      end > bytes.length ||
      equals <= key ||
      equals > end - 2 ||
      bytes[end - 1] !== 0x0a ||
      !Number.isSafeInteger(length)
    ) {
      throw new TarError('INVALID_PAX', 'tar: malformed record in an extended header');
    }
    addRecord(
      header,
      latin1(bytes.subarray(key, equals)),
      new Uint8Array(bytes.subarray(equals + 1, end - 1)),
    );
    position = end;
  }
  return header;
}

function addRecord(header: PaxHeader, key: ByteString, value: Uint8Array): void {
  if (key === 'GNU.sparse.offset') {
    header.segments.push({ offset: paxInteger(key, value), length: 0 });
  } else if (key === 'GNU.sparse.numbytes') {
    const segment = header.segments.at(-1);
    if (segment === undefined) throw new TarError('INVALID_SPARSE', 'tar: sparse map without an offset');
    segment.length = paxInteger(key, value);
  } else {
    header.values.set(key, value);
  }
}

/** -1 unless all of it is decimal digits and there is at least one. */
function decimal(bytes: Uint8Array): number {
  let value = bytes.length === 0 ? -1 : 0;
  for (const byte of bytes) {
    if (byte < 0x30 || byte > 0x39) return -1;
    value = value * 10 + (byte - 0x30);
  }
  return value;
}

export function paxInteger(key: ByteString, value: Uint8Array): number {
  const number = decimal(value);
  if (number < 0) throw new TarError('INVALID_PAX', `tar: extended header ${key} is not a decimal number`);
  if (!Number.isSafeInteger(number)) {
    throw new TarError('TOO_LARGE', `tar: extended header ${key} does not fit 53 bits`);
  }
  return number;
}

/** Seconds with a fraction, such as `-1.5`, in nanoseconds; digits beyond the ninth are cut off. */
export function paxTime(key: ByteString, value: Uint8Array): bigint {
  const match = /^(-?)(\d{1,18})(?:\.(\d*))?$/.exec(value.length > 100 ? '' : latin1(value));
  if (match === null) throw new TarError('INVALID_PAX', `tar: extended header ${key} is not a time`);
  const [, sign, seconds, fraction = ''] = match;
  const time = BigInt(seconds as string) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0').slice(0, 9));
  return sign === '-' ? -time : time;
}

/** A path or link target, which must not have a NUL in it. */
export function paxText(key: ByteString, value: Uint8Array): ByteString {
  if (value.includes(0)) throw new TarError('INVALID_PAX', `tar: extended header ${key} has a NUL in it`);
  return latin1(value);
}

const SCHILY_XATTR = 'SCHILY.xattr.';
const LIBARCHIVE_XATTR = 'LIBARCHIVE.xattr.';

/** Both forms of extended attributes; where both give the same one, SCHILY wins, as it needs no decoding. */
export function paxXattrs(values: ReadonlyMap<ByteString, Uint8Array>): Map<ByteString, Uint8Array> {
  const xattrs = new Map<ByteString, Uint8Array>();
  for (const [key, value] of values) {
    if (key.startsWith(SCHILY_XATTR)) {
      xattrs.set(xattrName(key, key.slice(SCHILY_XATTR.length)), value);
    } else if (key.startsWith(LIBARCHIVE_XATTR)) {
      const name = xattrName(key, unescapeUrl(key.slice(LIBARCHIVE_XATTR.length)));
      if (!values.has(SCHILY_XATTR + name)) xattrs.set(name, Buffer.from(latin1(value), 'base64'));
    }
  }
  return xattrs;
}

function xattrName(key: ByteString, name: ByteString): ByteString {
  if (name === '' || name.includes('\0')) {
    throw new TarError('INVALID_PAX', `tar: extended header ${JSON.stringify(key)} names no attribute`);
  }
  return name;
}

function unescapeUrl(text: ByteString): ByteString {
  return text.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

/** One record, for writers of archives. */
export function encodePaxRecord(key: ByteString, value: ByteString | Uint8Array): Uint8Array {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
  const rest = key.length + bytes.length + 3;
  let length = rest + 1;
  while (String(length).length + rest > length) length++;
  return Buffer.concat([Buffer.from(`${length} ${key}=`, 'latin1'), bytes, Buffer.from('\n')]);
}
