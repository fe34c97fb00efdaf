/** SESSION_SETUP (MS-SMB2 § 2.2.5 and 2.2.6). */
import { HEADER_SIZE } from './header.js';
import { Layout, reserved, slice, structureSize, u8, u16, u32, u64 } from './layout.js';

export const SessionFlag = { GUEST: 1, NULL: 2, ENCRYPT_DATA: 4 } as const;

export const SESSION_SETUP_REQUEST = new Layout('SESSION_SETUP request', {
  structureSize: structureSize(25),
  flags: reserved(1),
  securityMode: u8,
  capabilities: u32,
  channel: reserved(4),
  securityBufferOffset: u16,
  securityBufferLength: u16,
  previousSessionId: u64,
});

export const SESSION_SETUP_RESPONSE = new Layout('SESSION_SETUP response', {
  structureSize: structureSize(9),
  sessionFlags: u16,
  securityBufferOffset: u16,
  securityBufferLength: u16,
});

export function encodeSessionSetup(token: Buffer, securityMode: number, previousSessionId: bigint): Buffer {
  const fixed = SESSION_SETUP_REQUEST.encode({
    securityMode,
    capabilities: 0,
    securityBufferOffset: HEADER_SIZE + SESSION_SETUP_REQUEST.size,
    securityBufferLength: token.length,
    previousSessionId,
  });
  return Buffer.concat([fixed, token]);
}

export function decodeSessionSetup(message: Buffer): { sessionFlags: number; token: Buffer } {
  const fixed = SESSION_SETUP_RESPONSE.decode(message, HEADER_SIZE);
  return {
    sessionFlags: fixed.sessionFlags,
    token: slice(message, fixed.securityBufferOffset, fixed.securityBufferLength, 'a security buffer'),
  };
}
