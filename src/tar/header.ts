/** The 512-byte header of tar: field table, encode and decode. */
import type { ByteString } from '../erofs/tree.js';
import { TAR_BLOCK_SIZE, TarError } from './tar.js';

/** Offset and width of each field, in bytes; `sparse`, `isExtended` and `realSize` are those of GNU. */
const FIELDS = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  type: [156, 1],
  linkname: [157, 100],
  magic: [257, 8],
  major: [329, 8],
  minor: [337, 8],
  prefix: [345, 155],
  sparse: [386, 96],
  isExtended: [482, 1],
  realSize: [483, 12],
  starMagic: [508, 4],
} as const satisfies Record<string, readonly [number, number]>;

type Field = keyof typeof FIELDS;

/** star keeps access and change time behind a shorter prefix. */
const STAR_PREFIX_WIDTH = 131;
const GNU_ATIME_WIDTH = 12;

export const USTAR_MAGIC: ByteString = 'ustar\x0000';
export const GNU_MAGIC: ByteString = 'ustar  \0';

export interface TarHeader {
  /** Prefix and name put together. */
  name: ByteString;
  linkname: ByteString;
  mode: number;
  uid: number;
  gid: number;
  size: number;
  /** Seconds. */
  mtime: number;
  type: ByteString;
  isGnu: boolean;
}

/** `block` is TAR_BLOCK_SIZE bytes. */
export function isZeroBlock(block: Uint8Array): boolean {
  for (let i = 0; i < TAR_BLOCK_SIZE; i++) if (block[i] !== 0) return false;
  return true;
}

function field(block: Uint8Array, name: Field): Uint8Array {
  const [offset, width] = FIELDS[name];
  return block.subarray(offset, offset + width);
}

/** A byte string that ends at the first NUL or with the field. */
function text(bytes: Uint8Array): ByteString {
  const end = bytes.indexOf(0);
  return latin1(end < 0 ? bytes : bytes.subarray(0, end));
}

export function latin1(bytes: Uint8Array): ByteString {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}

/**
 * A number of a header: octal digits between spaces or NULs, or base-256 in two's complement when the first
 * bit is set (a GNU extension). An empty field is 0.
 */
export function decodeNumber(bytes: Uint8Array, what: string): number {
  const first = bytes[0] ?? 0;
  if (first & 0x80) return decodeBase256(bytes, what);
  let i = 0;
  while (i < bytes.length && (bytes[i] === 0x20 || bytes[i] === 0)) i++;
  let value = 0;
  for (; i < bytes.length; i++) {
    const digit = (bytes[i] as number) - 0x30;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  if (i < bytes.length && bytes[i] !== 0x20 && bytes[i] !== 0) {
    throw new TarError('INVALID_HEADER', `tar header: ${what} is not a number`);
  }
  return value;
}

function decodeBase256(bytes: Uint8Array, what: string): number {
  let value = BigInt((bytes[0] as number) & 0x3f);
  if ((bytes[0] as number) & 0x40) value -= 0x40n;
  for (let i = 1; i < bytes.length; i++) value = (value << 8n) | BigInt(bytes[i] as number);
  const number = Number(value);
  if (!Number.isSafeInteger(number)) {
    throw new TarError('TOO_LARGE', `tar header: ${what} does not fit 53 bits`);
  }
  return number;
}

/** Historic tars summed signed bytes; both sums are accepted. */
function verifyChecksum(block: Uint8Array): void {
  const [offset, width] = FIELDS.checksum;
  let unsigned = 0;
  let negatives = 0;
  for (let i = 0; i < TAR_BLOCK_SIZE; i++) {
    const byte = i >= offset && i < offset + width ? 0x20 : (block[i] as number);
    unsigned += byte;
    negatives += byte >> 7;
  }
  const stored = /^[ \0]*([0-7]+)(?:[ \0]|$)/.exec(latin1(field(block, 'checksum')))?.[1];
  const sum = Number.parseInt(stored ?? '', 8);
  if (sum !== unsigned && sum !== unsigned - 256 * negatives) {
    throw new TarError('INVALID_HEADER', 'not a tar header: its checksum is wrong');
  }
}

/** `block` is TAR_BLOCK_SIZE bytes and not zero. Throws TarError. */
export function decodeHeader(block: Uint8Array): TarHeader {
  verifyChecksum(block);
  const magic = latin1(field(block, 'magic'));
  const header: TarHeader = {
    name: text(field(block, 'name')),
    linkname: text(field(block, 'linkname')),
    mode: decodeNumber(field(block, 'mode'), 'mode') & 0o7777,
    uid: decodeNumber(field(block, 'uid'), 'uid'),
    gid: decodeNumber(field(block, 'gid'), 'gid'),
    size: decodeNumber(field(block, 'size'), 'size'),
    mtime: decodeNumber(field(block, 'mtime'), 'mtime'),
    type: latin1(field(block, 'type')),
    isGnu: magic === GNU_MAGIC,
  };
  const prefix = decodePrefix(block, magic);
  if (prefix !== '') header.name = `${prefix}/${header.name}`;
  return header;
}

function decodePrefix(block: Uint8Array, magic: ByteString): ByteString {
  const bytes = field(block, 'prefix');
  if (magic.startsWith('ustar\0')) {
    const isStar = latin1(field(block, 'starMagic')) === 'tar\0';
    return text(isStar ? bytes.subarray(0, STAR_PREFIX_WIDTH) : bytes);
  }
  // GNU has the access time here, but Go before 1.8 wrote a prefix even so, and images of that time exist.
  if (magic !== GNU_MAGIC) return '';
  const first = bytes[0] as number;
  if (first & 0x80 || isOctalField(bytes.subarray(0, GNU_ATIME_WIDTH))) return '';
  return text(bytes);
}

function isOctalField(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0 || byte === 0x20 || (byte >= 0x30 && byte <= 0x37));
}

/** Major and minor number; only device nodes have meaningful ones, so decodeHeader leaves them alone. */
export function decodeDevice(block: Uint8Array): { major: number; minor: number } {
  return {
    major: decodeNumber(field(block, 'major'), 'major'),
    minor: decodeNumber(field(block, 'minor'), 'minor'),
  };
}

/** What the header of an old GNU sparse file (type `S`) has beyond that of a file. */
export function decodeGnuSparse(block: Uint8Array): { map: Uint8Array; more: boolean; realSize: number } {
  return {
    map: field(block, 'sparse'),
    more: field(block, 'isExtended')[0] !== 0,
    realSize: decodeNumber(field(block, 'realSize'), 'real size'),
  };
}

export interface HeaderFields extends Partial<TarHeader> {
  prefix?: ByteString;
  magic?: ByteString;
  major?: number;
  minor?: number;
}

/** Numbers that do not fit in octal are written in base-256. Throws RangeError for text that does not fit. */
export function encodeHeader(fields: HeaderFields): Uint8Array {
  const block = new Uint8Array(TAR_BLOCK_SIZE);
  const magic = fields.magic ?? (fields.isGnu === true ? GNU_MAGIC : USTAR_MAGIC);
  encodeText(block, 'name', fields.name ?? '');
  encodeText(block, 'linkname', fields.linkname ?? '');
  encodeText(block, 'type', fields.type ?? '0');
  encodeText(block, 'magic', magic);
  encodeText(block, 'prefix', fields.prefix ?? '');
  encodeNumber(field(block, 'mode'), fields.mode ?? 0o644);
  encodeNumber(field(block, 'uid'), fields.uid ?? 0);
  encodeNumber(field(block, 'gid'), fields.gid ?? 0);
  encodeNumber(field(block, 'size'), fields.size ?? 0);
  encodeNumber(field(block, 'mtime'), fields.mtime ?? 0);
  if (fields.major !== undefined) encodeNumber(field(block, 'major'), fields.major);
  if (fields.minor !== undefined) encodeNumber(field(block, 'minor'), fields.minor);
  sealHeader(block);
  return block;
}

/** Writes the checksum of a header whose other fields are final. */
export function sealHeader(block: Uint8Array): void {
  field(block, 'checksum').fill(0x20);
  const sum = block.reduce((total, byte) => total + byte, 0);
  encodeNumber(field(block, 'checksum').subarray(0, 7), sum);
}

function encodeText(block: Uint8Array, name: Field, value: ByteString): void {
  const bytes = field(block, name);
  if (value.length > bytes.length) throw new RangeError(`tar header: ${name} is longer than ${bytes.length}`);
  bytes.set(Buffer.from(value, 'latin1'));
}

export function encodeNumber(bytes: Uint8Array, value: number): void {
  const digits = value < 0 ? '' : value.toString(8);
  if (value >= 0 && digits.length < bytes.length) {
    bytes.set(Buffer.from(`${digits.padStart(bytes.length - 1, '0')}\0`, 'latin1'));
    return;
  }
  let rest = BigInt(value);
  for (let i = bytes.length - 1; i >= 0; i--) {
    bytes[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  bytes[0] = ((bytes[0] as number) & 0x7f) | 0x80;
}
