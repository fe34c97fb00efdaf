/**
 * The commands whose request and response say nothing beyond their header: ECHO (MS-SMB2 § 2.2.28), LOGOFF
 * (§ 2.2.7), TREE_DISCONNECT (§ 2.2.11) and CANCEL (§ 2.2.30, which has no response) share one body.
 */
import { HEADER_SIZE } from './header.js';
import { Layout, reserved, structureSize } from './layout.js';

export const EMPTY_BODY = new Layout('empty body', {
  structureSize: structureSize(4),
  reserved: reserved(2),
});

export function encodeEmpty(): Buffer {
  return EMPTY_BODY.encode({});
}

export function decodeEmpty(message: Buffer): void {
  EMPTY_BODY.decode(message, HEADER_SIZE);
}
