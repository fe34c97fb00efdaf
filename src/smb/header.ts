/** The 64-byte header of every SMB2 message (MS-SMB2 § 2.2.1), and the chain of a compound (§ 2.2.1.1). */
import { protocolError } from './error.js';
import { bytes, constant, Layout, structureSize, u16, u32, u64, type ValuesOf } from './layout.js';

export const Command = {
  NEGOTIATE: 0,
  SESSION_SETUP: 1,
  LOGOFF: 2,
  TREE_CONNECT: 3,
  TREE_DISCONNECT: 4,
  CREATE: 5,
  CLOSE: 6,
  READ: 8,
  IOCTL: 11,
  CANCEL: 12,
  ECHO: 13,
  QUERY_DIRECTORY: 14,
  QUERY_INFO: 16,
} as const;

export const HeaderFlag = {
  SERVER_TO_REDIR: 0x1,
  ASYNC: 0x2,
  RELATED: 0x4,
  SIGNED: 0x8,
} as const;

export const SMB2_MAGIC = 0x424d53fe; // 0xFE 'S' 'M' 'B'

export const HEADER = new Layout('SMB2 header', {
  protocolId: constant(u32, SMB2_MAGIC, 'ProtocolId'),
  structureSize: structureSize(64),
  creditCharge: u16,
  /** Zero in requests (Reserved, or ChannelSequence in the 3.x dialects). */
  status: u32,
  command: u16,
  /** Credits asked for in a request, granted in a response. */
  credits: u16,
  flags: u32,
  nextCommand: u32,
  messageId: u64,
  /** TreeId in the upper half; the whole of it is the AsyncId when the flag ASYNC is set. */
  treeOrAsyncId: u64,
  sessionId: u64,
  signature: bytes(16),
});

export const HEADER_SIZE = HEADER.size;
export type Header = ValuesOf<typeof HEADER>;

/** A message that the server sends without being asked (an oplock break) has this id. */
export const UNSOLICITED = 0xffffffffffffffffn;

export function treeField(treeId: number): bigint {
  return BigInt(treeId) << 32n;
}

export function treeIdOf(header: Header): number {
  return Number(header.treeOrAsyncId >> 32n);
}

export interface Message {
  header: Header;
  /** Header and body; offsets inside a body count from here. */
  bytes: Buffer;
}

/** More responses than this in one compound is an attack: we never send more than a handful of requests at once. */
const MAX_CHAIN = 64;

/** Takes apart a plaintext packet, which holds one message or a compound chain. */
export function splitCompound(packet: Buffer): Message[] {
  const messages: Message[] = [];
  let rest = packet;
  for (;;) {
    const header = HEADER.decode(rest);
    const next = header.nextCommand;
    if (next === 0) {
      messages.push({ header, bytes: rest });
      return messages;
    }
    if (next % 8 !== 0 || next < HEADER_SIZE || next + HEADER_SIZE > rest.length) {
      throw protocolError(`a compound whose next message is at ${next} of ${rest.length} bytes`);
    }
    if (messages.length >= MAX_CHAIN) throw protocolError(`a compound of more than ${MAX_CHAIN} messages`);
    messages.push({ header, bytes: rest.subarray(0, next) });
    rest = rest.subarray(next);
  }
}
