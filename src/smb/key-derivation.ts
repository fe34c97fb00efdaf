/** Keys of a session from the key that the login gave (MS-SMB2 § 3.1.4.2; NIST SP 800-108, counter mode). */
import { createHmac } from 'node:crypto';
import { CIPHERS, type Cipher, type Dialect } from './algorithms.js';

/** One block of HMAC-SHA256 output, which is as much as any SMB key needs. `label` and `context` end in a NUL. */
export function deriveKey(key: Uint8Array, label: string, context: Uint8Array, length: 16 | 32): Buffer {
  const counter = Buffer.from([0, 0, 0, 1]);
  const bits = Buffer.alloc(4);
  bits.writeUInt32BE(length * 8);
  return createHmac('sha256', key)
    .update(counter)
    .update(`${label}\0`, 'latin1')
    .update(Buffer.from([0]))
    .update(context)
    .update(bits)
    .digest()
    .subarray(0, length);
}

export interface SessionKeys {
  signing: Buffer;
  /** Client to server. */
  encryption: Buffer;
  /** Server to client. */
  decryption: Buffer;
}

/** `sessionKey` has 16 bytes; `preauthHash` counts in dialect 3.1.1 only. */
export function sessionKeys(
  dialect: Dialect,
  sessionKey: Buffer,
  preauthHash: Buffer,
  cipher: Cipher | undefined,
): SessionKeys {
  if (dialect === '2.1') return { signing: sessionKey, encryption: sessionKey, decryption: sessionKey };
  const length = cipher === undefined ? 16 : CIPHERS[cipher].keyLength;
  if (dialect === '3.0.2') {
    const nul = (text: string) => Buffer.from(`${text}\0`, 'latin1');
    return {
      signing: deriveKey(sessionKey, 'SMB2AESCMAC', nul('SmbSign'), 16),
      encryption: deriveKey(sessionKey, 'SMB2AESCCM', nul('ServerIn '), length),
      decryption: deriveKey(sessionKey, 'SMB2AESCCM', nul('ServerOut'), length),
    };
  }
  return {
    signing: deriveKey(sessionKey, 'SMBSigningKey', preauthHash, 16),
    encryption: deriveKey(sessionKey, 'SMBC2SCipherKey', preauthHash, length),
    decryption: deriveKey(sessionKey, 'SMBS2CCipherKey', preauthHash, length),
  };
}
