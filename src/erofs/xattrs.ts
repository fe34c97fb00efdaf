/** The inline xattr area of an inode: XATTR_HEADER, ids of shared entries, then entries aligned to 4 bytes. */
import { ErofsError } from './erofs-error.js';
import { XATTR_ALIGNMENT, XATTR_PREFIXES, xattrEntry, xattrHeader } from './format.js';
import { viewOf } from './record.js';
import type { ByteString } from './tree.js';

/** The kernel refuses longer values (XATTR_SIZE_MAX, which e_value_size cannot even hold) and names. */
const VALUE_MAX = 0xffff;
const NAME_SUFFIX_MAX = 255;

/** i_xattr_icount has 16 bits and counts the header as one. */
const AREA_MAX = xattrHeader.size + (0xffff - 1) * XATTR_ALIGNMENT;

function splitName(name: ByteString): { index: number; suffix: ByteString } {
  for (const [index, prefix] of XATTR_PREFIXES) {
    const exact = !prefix.endsWith('.');
    if (exact ? name === prefix : name.startsWith(prefix))
      return { index, suffix: name.slice(prefix.length) };
  }
  throw new ErofsError('INVALID_TREE', `EROFS has no namespace for the xattr ${JSON.stringify(name)}`);
}

/** True of names that EROFS can store: those of a known namespace, not too long. */
export function isStorableXattr(name: ByteString): boolean {
  return XATTR_PREFIXES.some(([, prefix]) =>
    prefix.endsWith('.')
      ? name.startsWith(prefix) &&
        name.length > prefix.length &&
        name.length - prefix.length <= NAME_SUFFIX_MAX
      : name === prefix,
  );
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
