/** Virtual hard disks: the fixed ones that Orca writes, and those, fixed and dynamic, that it reads. */
import { checkRange, type ReadAt } from '../erofs/read-at.js';
import { viewOf } from '../erofs/record.js';
import { dynamicPayload } from './dynamic.js';
import { COOKIE, DISK_SIZE_MAX, DISK_TYPE, footer, vhdChecksum } from './footer.js';
import { VhdError } from './vhd-error.js';

export { fileReader } from './file-reader.js';
export { fixedFooter } from './footer.js';
export { VhdError } from './vhd-error.js';

/** The disk that a VHD holds. */
export interface VhdPayload {
  kind: 'fixed' | 'dynamic';
  /** Bytes. */
  size: number;
  readAt: ReadAt;
}

/** Opens a VHD of `size` bytes. Throws VhdError; differencing disks are UNSUPPORTED. */
export function openVhd(readAt: ReadAt, size: number): VhdPayload {
  if (size < footer.size) throw new VhdError('NOT_VHD', `a file of ${size} bytes is no VHD`);
  const record = readAt(size - footer.size, footer.size);
  const values = footer.decode(viewOf(record), 0);
  if (Buffer.from(values.cookie).toString('latin1') !== COOKIE) {
    const start = Buffer.from(readAt(0, COOKIE.length)).toString('latin1');
    if (start === COOKIE)
      throw new VhdError('TRUNCATED', 'the VHD has no footer at its end: it is cut short');
    throw new VhdError('NOT_VHD', 'the file has no VHD footer at its end');
  }
  if (vhdChecksum(record, footer.fields.checksum.offset) !== values.checksum) {
    throw new VhdError('CORRUPT', 'the checksum of the VHD footer does not match');
  }
  const { diskType, currentSize } = values;
  if (currentSize > DISK_SIZE_MAX) throw new VhdError('CORRUPT', `a VHD cannot hold ${currentSize} bytes`);
  const payloadEnd = size - footer.size;
  if (diskType === DISK_TYPE.fixed) {
    if (currentSize > payloadEnd) {
      throw new VhdError('TRUNCATED', `the VHD should hold ${currentSize} bytes, but has ${payloadEnd}`);
    }
    return { kind: 'fixed', size: currentSize, readAt: boundedReader(readAt, currentSize) };
  }
  if (diskType === DISK_TYPE.dynamic) {
    const headerOffset = Number(values.dataOffset);
    return {
      kind: 'dynamic',
      size: currentSize,
      readAt: dynamicPayload(readAt, size, headerOffset, currentSize),
    };
  }
  const kind = diskType === DISK_TYPE.differencing ? 'a differencing VHD' : `a VHD of type ${diskType}`;
  throw new VhdError('UNSUPPORTED', `${kind} is not supported; merge it into a fixed or dynamic one`);
}

function boundedReader(readAt: ReadAt, size: number): ReadAt {
  return (offset, length) => {
    checkRange('a read', offset, length, size);
    return readAt(offset, length);
  };
}
