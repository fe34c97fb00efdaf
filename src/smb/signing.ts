/** Signatures of SMB2 messages (MS-SMB2 § 3.1.4.1 and 3.1.5.1). */
import { createCipheriv, createHmac, timingSafeEqual } from 'node:crypto';
import type { SigningAlgorithm } from './algorithms.js';
import { AesCmac } from './cmac.js';
import { Command, HEADER, type Header, HeaderFlag } from './header.js';

const SIGNATURE_AT = HEADER.offsets.signature;
const SIGNATURE_END = SIGNATURE_AT + 16;

export class Signer {
  readonly algorithm: SigningAlgorithm;
  readonly #key: Buffer;
  readonly #cmac: AesCmac | undefined;

  constructor(algorithm: SigningAlgorithm, key: Buffer) {
    this.algorithm = algorithm;
    this.#key = key;
    this.#cmac = algorithm === 'AES-128-CMAC' ? new AesCmac(key) : undefined;
  }

  /** Sets the signature of `message`, whose header already has the flag SIGNED. */
  sign(message: Buffer, header: Header): void {
    message.fill(0, SIGNATURE_AT, SIGNATURE_END);
    message.set(this.#tag(message, header), SIGNATURE_AT);
  }

  /** Whether `message` carries the right signature. Its signature field is zeroed on the way. */
  verify(message: Buffer, header: Header): boolean {
    const found = Buffer.from(message.subarray(SIGNATURE_AT, SIGNATURE_END));
    message.fill(0, SIGNATURE_AT, SIGNATURE_END);
    return timingSafeEqual(found, this.#tag(message, header));
  }

  #tag(message: Buffer, header: Header): Buffer {
    switch (this.algorithm) {
      case 'HMAC-SHA256':
        return createHmac('sha256', this.#key).update(message).digest().subarray(0, 16);
      case 'AES-128-CMAC':
        return this.#cmac!.tag(message);
      case 'AES-128-GMAC': {
        // Nonce of § 3.1.4.1: MessageId, then bit 0 for a response and bit 1 for a CANCEL.
        const nonce = Buffer.alloc(12);
        nonce.writeBigUInt64LE(header.messageId);
        const fromServer = (header.flags & HeaderFlag.SERVER_TO_REDIR) !== 0 ? 1 : 0;
        nonce[8] = fromServer | (header.command === Command.CANCEL ? 2 : 0);
        const cipher = createCipheriv('aes-128-gcm', this.#key, nonce).setAAD(message);
        cipher.final();
        return cipher.getAuthTag();
      }
    }
  }
}
