/**
 * CREATE (MS-SMB2 § 2.2.13 and 2.2.14): opens what exists, for reading. Asks by a create context
 * (SMB2_CREATE_QUERY_ON_DISK_ID, § 2.2.13.2.9) for the file's number on its volume, which tells a file from
 * another that took its name.
 */
import { protocolError } from './error.js';
import { HEADER_SIZE } from './header.js';
import { bytes, Layout, length64, reserved, slice, structureSize, u8, u16, u32, u64 } from './layout.js';

const IMPERSONATION = 2;
const FILE_OPEN = 1;
const SHARE_ALL = 0x7; // others may read, write and delete meanwhile
const FILE_READ_DATA = 0x1;
const FILE_READ_ATTRIBUTES = 0x80;
const Option = { DIRECTORY: 0x1, NON_DIRECTORY: 0x40 } as const;
export const FileAttribute = { DIRECTORY: 0x10 } as const;

export const CREATE_REQUEST = new Layout('CREATE request', {
  structureSize: structureSize(57),
  securityFlags: reserved(1),
  oplockLevel: u8,
  impersonationLevel: u32,
  smbCreateFlags: reserved(8),
  reserved: reserved(8),
  desiredAccess: u32,
  fileAttributes: u32,
  shareAccess: u32,
  createDisposition: u32,
  createOptions: u32,
  nameOffset: u16,
  nameLength: u16,
  contextsOffset: u32,
  contextsLength: u32,
});

export const CREATE_RESPONSE = new Layout('CREATE response', {
  structureSize: structureSize(89),
  oplockLevel: u8,
  flags: u8,
  createAction: u32,
  creationTime: u64,
  lastAccessTime: u64,
  lastWriteTime: u64,
  changeTime: u64,
  allocationSize: u64,
  endOfFile: length64,
  fileAttributes: u32,
  reserved: reserved(4),
  fileId: bytes(16),
  contextsOffset: u32,
  contextsLength: u32,
});

/** One element of the chain of create contexts (§ 2.2.13.2); offsets count from its beginning. */
export const CREATE_CONTEXT = new Layout('create context', {
  next: u32,
  nameOffset: u16,
  nameLength: u16,
  reserved: reserved(2),
  dataOffset: u16,
  dataLength: u32,
});

const ON_DISK_ID = Buffer.from('QFid', 'latin1');
/** A server answers with as many contexts as it was sent, at most. */
const MAX_CONTEXTS = 16;

/** `any` opens a file or a directory, for its attributes only. */
export type Kind = 'file' | 'directory' | 'any';

/** `name` is relative to the share, with backslashes; the empty name is the root of the share. */
export function encodeCreate(name: string, kind: Kind): Buffer {
  const nameBytes = Buffer.from(name, 'utf16le');
  const nameAt = CREATE_REQUEST.size;
  const contextsAt = Math.ceil((HEADER_SIZE + nameAt + nameBytes.length) / 8) * 8 - HEADER_SIZE;
  const body = Buffer.alloc(contextsAt + CREATE_CONTEXT.size + 8);
  CREATE_REQUEST.encode(
    {
      oplockLevel: 0,
      impersonationLevel: IMPERSONATION,
      desiredAccess: FILE_READ_ATTRIBUTES | (kind === 'any' ? 0 : FILE_READ_DATA),
      fileAttributes: 0,
      shareAccess: SHARE_ALL,
      createDisposition: FILE_OPEN,
      createOptions: kind === 'file' ? Option.NON_DIRECTORY : kind === 'directory' ? Option.DIRECTORY : 0,
      nameOffset: HEADER_SIZE + nameAt,
      nameLength: nameBytes.length,
      contextsOffset: HEADER_SIZE + contextsAt,
      contextsLength: CREATE_CONTEXT.size + 8,
    },
    body,
  );
  body.set(nameBytes, nameAt);
  CREATE_CONTEXT.encode(
    { next: 0, nameOffset: CREATE_CONTEXT.size, nameLength: ON_DISK_ID.length, dataOffset: 0, dataLength: 0 },
    body,
    contextsAt,
  );
  body.set(ON_DISK_ID, contextsAt + CREATE_CONTEXT.size);
  return body;
}

export interface Opened {
  fileId: Buffer;
  size: number;
  /** 100 ns units since 1601. */
  lastWriteTime: bigint;
  isDirectory: boolean;
  /** Number of the file and of its volume, 16 bytes; none from a server that does not say. */
  onDiskId: Buffer | undefined;
}

export function decodeCreate(message: Buffer): Opened {
  const fixed = CREATE_RESPONSE.decode(message, HEADER_SIZE);
  const contexts =
    fixed.contextsLength === 0
      ? Buffer.alloc(0)
      : slice(message, fixed.contextsOffset, fixed.contextsLength, 'create contexts');
  return {
    fileId: Buffer.from(fixed.fileId),
    size: fixed.endOfFile,
    lastWriteTime: fixed.lastWriteTime,
    isDirectory: (fixed.fileAttributes & FileAttribute.DIRECTORY) !== 0,
    onDiskId: findOnDiskId(contexts),
  };
}

function findOnDiskId(contexts: Buffer): Buffer | undefined {
  let rest = contexts;
  for (let i = 0; rest.length > 0; i++) {
    if (i >= MAX_CONTEXTS) throw protocolError(`more than ${MAX_CONTEXTS} create contexts`);
    const { next, nameOffset, nameLength, dataOffset, dataLength } = CREATE_CONTEXT.decode(rest);
    const name = slice(rest, nameOffset, nameLength, 'the name of a create context');
    if (name.equals(ON_DISK_ID)) {
      // DiskFileId, VolumeId, 16 reserved bytes (§ 2.2.14.2.9).
      const data = slice(rest, dataOffset, dataLength, 'a create context');
      if (data.length !== 32) throw protocolError(`an on-disk id of ${data.length} bytes`);
      return Buffer.from(data.subarray(0, 16));
    }
    if (next === 0) return undefined;
    rest = slice(rest, next, rest.length - next, 'a create context');
  }
  return undefined;
}
