/** TREE_CONNECT (MS-SMB2 § 2.2.9 and 2.2.10). */
import { HEADER_SIZE } from './header.js';
import { Layout, reserved, structureSize, u8, u16, u32 } from './layout.js';

export const ShareType = { DISK: 1, PIPE: 2, PRINT: 3 } as const;
export const ShareFlag = { ENCRYPT_DATA: 0x8000 } as const;

export const TREE_CONNECT_REQUEST = new Layout('TREE_CONNECT request', {
  structureSize: structureSize(9),
  flags: reserved(2),
  pathOffset: u16,
  pathLength: u16,
});

export const TREE_CONNECT_RESPONSE = new Layout('TREE_CONNECT response', {
  structureSize: structureSize(16),
  shareType: u8,
  reserved: reserved(1),
  shareFlags: u32,
  capabilities: u32,
  maximalAccess: u32,
});

export function encodeTreeConnect(host: string, share: string): Buffer {
  const path = Buffer.from(`\\\\${host}\\${share}`, 'utf16le');
  const fixed = TREE_CONNECT_REQUEST.encode({
    pathOffset: HEADER_SIZE + TREE_CONNECT_REQUEST.size,
    pathLength: path.length,
  });
  return Buffer.concat([fixed, path]);
}

export function decodeTreeConnect(message: Buffer): { shareType: number; shareFlags: number } {
  const { shareType, shareFlags } = TREE_CONNECT_RESPONSE.decode(message, HEADER_SIZE);
  return { shareType, shareFlags };
}
