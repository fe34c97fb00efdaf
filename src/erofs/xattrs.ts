/** The inline xattr area of an inode: XATTR_HEADER, ids of shared entries, then entries aligned to 4 bytes. */
import { ErofsError } from './erofs-error.js';
import { XATTR_ALIGNMENT, XATTR_LONG_PREFIX, XATTR_PREFIXES, xattrEntry, xattrHeader } from './format.js';
import { checkRange, type ReadAt } from './read-at.js';
import { viewOf } from './record.js';
import type { ByteString } from './tree.js';

/** The kernel refuses longer values (XATTR_SIZE_MAX, which e_value_size cannot even hold) and names. */
const VALUE_MAX = 0xffff;
const NAME_SUFFIX_MAX = 255;

/** i_xattr_icount has 16 bits and counts the header as one. */
const AREA_MAX = xattrHeader.size + (0xffff - 1) * XATTR_ALIGNMENT;

/** Prefixes that are whole names have no suffix, the others (which end in a dot) must have one. */
function splitName(name: ByteString): { index: number; suffix: ByteString } {
  for (const [index, prefix] of XATTR_PREFIXES) {
    const isMatch = prefix.endsWith('.')
      ? name.startsWith(prefix) && name.length > prefix.length && !name.includes('\0')
      : name === prefix;
    if (isMatch) return { index, suffix: name.slice(prefix.length) };
  }
  throw new ErofsError('INVALID_TREE', `EROFS cannot hold the xattr ${JSON.stringify(name)}`);
}

function align(length: number): number {
  return Math.ceil(length / XATTR_ALIGNMENT) * XATTR_ALIGNMENT;
}

/** Bytes that the area takes behind the inode: 0 when there is no xattr, otherwise a multiple of 4. */
export function xattrAreaSize(xattrs: ReadonlyMap<ByteString, Uint8Array>): number {
  if (xattrs.size === 0) return 0;
  let size = xattrHeader.size;
  for (const [name, value] of xattrs) {
    const { suffix } = splitName(name);
    if (suffix.length > NAME_SUFFIX_MAX)
      throw new ErofsError('TOO_LARGE', `the xattr name ${name} is too long`);
    if (value.length > VALUE_MAX) {
      throw new ErofsError(
        'TOO_LARGE',
        `the xattr ${name} has ${value.length} bytes, more than ${VALUE_MAX}`,
      );
    }
    size += align(xattrEntry.size + suffix.length + value.length);
  }
  if (size > AREA_MAX) throw new ErofsError('TOO_LARGE', `xattrs of ${size} bytes, more than ${AREA_MAX}`);
  return size;
}

/** The value of i_xattr_icount for an area of `size` bytes. */
export function xattrCount(size: number): number {
  return size === 0 ? 0 : (size - xattrHeader.size) / XATTR_ALIGNMENT + 1;
}

/** The reverse of xattrCount(). */
export function xattrSizeOf(count: number): number {
  return count === 0 ? 0 : xattrHeader.size + (count - 1) * XATTR_ALIGNMENT;
}

/** The area, of xattrAreaSize() bytes, entries in byte order of their names. */
export function encodeXattrs(xattrs: ReadonlyMap<ByteString, Uint8Array>): Uint8Array {
  const area = new Uint8Array(xattrAreaSize(xattrs));
  const view = viewOf(area);
  let at = xattrHeader.size;
  for (const name of [...xattrs.keys()].sort()) {
    const { index, suffix } = splitName(name);
    const value = xattrs.get(name) as Uint8Array;
    const { nameLength, nameIndex, valueLength } = xattrEntry.fields;
    nameLength.set(view, at, suffix.length);
    nameIndex.set(view, at, index);
    valueLength.set(view, at, value.length);
    area.set(Buffer.from(suffix, 'latin1'), at + xattrEntry.size);
    area.set(value, at + xattrEntry.size + suffix.length);
    at += align(xattrEntry.size + suffix.length + value.length);
  }
  return area;
}

interface Xattr {
  name: ByteString;
  value: Uint8Array;
}

/** Decodes the entry at `at`; `size` is what it takes, padding included. The value is a copy. */
function decodeEntry(bytes: Uint8Array, at: number): Xattr & { size: number } {
  const view = viewOf(bytes);
  const { nameLength, nameIndex, valueLength } = xattrEntry.fields;
  checkRange('an xattr', at, xattrEntry.size, bytes.length);
  const index = nameIndex.get(view, at);
  const prefix = XATTR_PREFIXES.find(([known]) => known === index)?.[1];
  if (prefix === undefined) {
    const kind = index & XATTR_LONG_PREFIX ? 'long prefix' : 'namespace';
    throw new ErofsError('UNSUPPORTED', `the xattr ${kind} ${index & ~XATTR_LONG_PREFIX} is not supported`);
  }
  const nameAt = at + xattrEntry.size;
  const valueAt = nameAt + nameLength.get(view, at);
  const end = valueAt + valueLength.get(view, at);
  checkRange('an xattr', nameAt, end - nameAt, bytes.length);
  const suffix = Buffer.from(bytes.subarray(nameAt, valueAt)).toString('latin1');
  return {
    name: prefix + suffix,
    value: new Uint8Array(bytes.subarray(valueAt, end)),
    size: align(end - at),
  };
}

/** The shared xattrs of an image; each is decoded once, and its value shared by all inodes that refer to it. */
export class SharedXattrs {
  private readonly decoded = new Map<number, Xattr>();
  private bytesLeft: number;

  /** `start` is the byte that ids count from. */
  constructor(
    private readonly readAt: ReadAt,
    private readonly imageSize: number,
    private readonly start: number,
  ) {
    // Entries do not overlap in a sound image, so all of them together are not larger than the image.
    this.bytesLeft = imageSize;
  }

  get(id: number): Xattr {
    const known = this.decoded.get(id);
    if (known !== undefined) return known;
    const at = this.start + id * XATTR_ALIGNMENT;
    checkRange('a shared xattr', at, xattrEntry.size, this.imageSize);
    const length = Math.min(xattrEntry.size + NAME_SUFFIX_MAX + VALUE_MAX, this.imageSize - at);
    const { name, value, size } = decodeEntry(this.readAt(at, length), 0);
    this.bytesLeft -= size;
    if (this.bytesLeft < 0) throw new ErofsError('CORRUPT', 'the shared xattrs overlap');
    const xattr = { name, value };
    this.decoded.set(id, xattr);
    return xattr;
  }
}

/** Decodes the xattr area of an inode: the shared ones, then the inline ones. */
export function decodeXattrs(area: Uint8Array, shared: SharedXattrs): Map<ByteString, Uint8Array> {
  const view = viewOf(area);
  const xattrs = new Map<ByteString, Uint8Array>();
  const sharedCount = xattrHeader.fields.sharedCount.get(view, 0);
  let at = xattrHeader.size + sharedCount * XATTR_ALIGNMENT;
  checkRange('the ids of shared xattrs', 0, at, area.length);
  const add = ({ name, value }: Xattr): void => {
    if (xattrs.has(name)) throw new ErofsError('CORRUPT', `an inode has the xattr ${name} twice`);
    xattrs.set(name, value);
  };
  for (let idAt = xattrHeader.size; idAt < at; idAt += XATTR_ALIGNMENT)
    add(shared.get(view.getUint32(idAt, true)));
  while (at < area.length) {
    const entry = decodeEntry(area, at);
    add(entry);
    at += entry.size;
  }
  return xattrs;
}
