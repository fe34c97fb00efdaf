/**
 * Links that let who has them read one file of one repository's store until they expire:
 * `?expires=<seconds since 1970>&signature=<base64url>`. The signature is HMAC-SHA256, with a key derived (HKDF) from
 * that of the tokens, over repository, path and time; a new token key voids all links.
 */
import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';

export const LINK_SECONDS = 3600;
const KEY_BYTES = 32;
const CONTEXT = 'orca signed link v1';

export interface Signature {
  expires: string;
  signature: string;
}

export class SignedLinks {
  private readonly key: Uint8Array;

  constructor(tokenKey: Uint8Array) {
    this.key = new Uint8Array(hkdfSync('sha256', tokenKey, '', CONTEXT, KEY_BYTES));
  }

  /** The query of a link that is good for `seconds`. */
  sign(repository: string, path: string, seconds = LINK_SECONDS): string {
    const expires = `${Math.floor(Date.now() / 1000) + seconds}`;
    return `expires=${expires}&signature=${this.mac(repository, path, expires).toString('base64url')}`;
  }

  verify(repository: string, path: string, { expires, signature }: Signature): boolean {
    if (!/^[1-9]\d{0,11}$/.test(expires) || !/^[\w-]{43}$/.test(signature)) return false;
    const given = Buffer.from(signature, 'base64url');
    const right = this.mac(repository, path, expires);
    // The last character has two bits that base64 ignores; there is one spelling of a signature.
    const equal = timingSafeEqual(given, right) && given.toString('base64url') === signature;
    return equal && Number(expires) * 1000 > Date.now();
  }

  /** Neither names, paths nor times have line ends in them. */
  private mac(repository: string, path: string, expires: string): Buffer {
    return createHmac('sha256', this.key).update(`${repository}\n${path}\n${expires}`).digest();
  }
}
