/** The encrypting envelope of SMB 3 (MS-SMB2 § 2.2.41, 3.1.4.3 and 3.1.5.2). */
import {
  type CipherCCM,
  type CipherGCM,
  createCipheriv,
  createDecipheriv,
  type DecipherCCM,
  type DecipherGCM,
} from 'node:crypto';
import { addon } from '../native/addon.js';
import { CIPHERS, type Cipher, type CipherSpec } from './algorithms.js';
import { protocolError, SmbError } from './error.js';
import { bytes, constant, Layout, reserved, u16, u32, u64 } from './layout.js';

export const TRANSFORM_MAGIC = 0x424d53fd; // 0xFD 'S' 'M' 'B'

export const TRANSFORM_HEADER = new Layout('transform header', {
  protocolId: constant(u32, TRANSFORM_MAGIC, 'ProtocolId'),
  /** Authentication tag; what follows it in this header is the authenticated data. */
  signature: bytes(16),
  nonce: bytes(16),
  originalMessageSize: u32,
  reserved: reserved(2),
  /** 1: encrypted (an algorithm id in SMB 3.0.x, where 1 is AES-128-CCM). */
  flags: constant(u16, 1, 'transform Flags'),
  sessionId: u64,
});

const AAD_AT = TRANSFORM_HEADER.offsets.nonce;
const TAG_LENGTH = 16;
const GCM_NONCE = 12;
const NOT_AUTHENTIC = 'the server sent a message that does not decrypt';

export class Envelope {
  readonly cipher: Cipher;
  readonly #spec: CipherSpec;
  readonly #encryptionKey: Buffer;
  readonly #decryptionKey: Buffer;
  /** Nonces never repeat under one key: a counter, and a key that lives as long as its session. */
  #counter = 0n;

  constructor(cipher: Cipher, encryptionKey: Buffer, decryptionKey: Buffer) {
    this.cipher = cipher;
    this.#spec = CIPHERS[cipher];
    this.#encryptionKey = encryptionKey;
    this.#decryptionKey = decryptionKey;
  }

  /** The transform header and the ciphertext of `message`. */
  seal(message: Buffer, sessionId: bigint): Buffer {
    const { algorithm, nonceLength } = this.#spec;
    const nonce = Buffer.alloc(16);
    nonce.writeBigUInt64LE(this.#counter++);
    const packet = Buffer.alloc(TRANSFORM_HEADER.size + message.length);
    TRANSFORM_HEADER.encode(
      { signature: Buffer.alloc(16), nonce, originalMessageSize: message.length, sessionId },
      packet,
    );
    const aad = packet.subarray(AAD_AT, TRANSFORM_HEADER.size);
    const cipher = createCipheriv(
      algorithm as 'aes-128-ccm',
      this.#encryptionKey,
      nonce.subarray(0, nonceLength),
      {
        authTagLength: TAG_LENGTH,
      },
    ) as CipherCCM | CipherGCM;
    cipher.setAAD(aad, { plaintextLength: message.length });
    packet.set(cipher.update(message), TRANSFORM_HEADER.size);
    cipher.final();
    packet.set(cipher.getAuthTag(), TRANSFORM_HEADER.offsets.signature);
    return packet;
  }

  /** Whether `open` puts the plaintext where the ciphertext was; otherwise it is a new buffer. */
  get inPlace(): boolean {
    return this.#spec.nonceLength === GCM_NONCE;
  }

  /** The plaintext of a packet that begins with a transform header. The packet is of no use afterwards. */
  open(packet: Buffer, sessionId: bigint): Buffer {
    const header = TRANSFORM_HEADER.decode(packet);
    const ciphertext = packet.subarray(TRANSFORM_HEADER.size);
    if (header.sessionId !== sessionId) throw protocolError('an encrypted message of another session');
    if (header.originalMessageSize !== ciphertext.length) {
      throw protocolError(`${ciphertext.length} encrypted bytes where ${header.originalMessageSize} are due`);
    }
    const { algorithm, nonceLength } = this.#spec;
    const nonce = header.nonce.subarray(0, nonceLength);
    const additional = packet.subarray(AAD_AT, TRANSFORM_HEADER.size);
    if (this.inPlace) {
      const message = { key: this.#decryptionKey, nonce, additional, tag: header.signature };
      if (addon.openGcm(message, ciphertext)) return ciphertext;
      throw new SmbError('SIGNATURE', NOT_AUTHENTIC);
    }
    const decipher = createDecipheriv(algorithm as 'aes-128-ccm', this.#decryptionKey, nonce, {
      authTagLength: TAG_LENGTH,
    }) as DecipherCCM | DecipherGCM;
    decipher.setAuthTag(header.signature);
    decipher.setAAD(additional, { plaintextLength: ciphertext.length });
    try {
      const plaintext = decipher.update(ciphertext);
      decipher.final();
      return plaintext;
    } catch (cause) {
      throw new SmbError('SIGNATURE', NOT_AUTHENTIC, { cause });
    }
  }
}
