/** AES-128-CMAC (RFC 4493) by way of CBC encryption, the one primitive of it that node:crypto has. */
import { createCipheriv } from 'node:crypto';

const BLOCK = 16;
/** Large input is run through the cipher in pieces, so that its output, which nobody wants, stays in cache. */
const PIECE = 64 * 1024;
const ZERO = Buffer.alloc(BLOCK);

/** Doubling in GF(2^128), RFC 4493 § 2.3. */
function double(value: Buffer): Buffer {
  const out = Buffer.alloc(BLOCK);
  for (let i = 0; i < BLOCK; i++) out[i] = (value[i]! << 1) | ((value[i + 1] ?? 0) >> 7);
  if (value[0]! & 0x80) out[BLOCK - 1]! ^= 0x87;
  return out;
}

export class AesCmac {
  readonly #key: Uint8Array;
  readonly #whole: Buffer;
  readonly #padded: Buffer;

  constructor(key: Uint8Array) {
    this.#key = key;
    const cipher = createCipheriv('aes-128-cbc', key, ZERO).setAutoPadding(false);
    this.#whole = double(cipher.update(ZERO));
    this.#padded = double(this.#whole);
  }

  /** The 16-byte tag of `message`. */
  tag(message: Uint8Array): Buffer {
    const cipher = createCipheriv('aes-128-cbc', this.#key, ZERO).setAutoPadding(false);
    const head = message.length === 0 ? 0 : Math.floor((message.length - 1) / BLOCK) * BLOCK;
    for (let at = 0; at < head; at += PIECE) cipher.update(message.subarray(at, Math.min(at + PIECE, head)));
    const last = Buffer.alloc(BLOCK);
    last.set(message.subarray(head));
    const rest = message.length - head;
    if (rest < BLOCK) last[rest] = 0x80;
    const mask = rest === BLOCK ? this.#whole : this.#padded;
    for (let i = 0; i < BLOCK; i++) last[i]! ^= mask[i]!;
    return cipher.update(last);
  }
}
