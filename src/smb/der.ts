/** The little of DER (ITU-T X.690) that SPNEGO needs: definite lengths, single-byte tags. */
import { protocolError } from './error.js';

export function encodeDer(tag: number, ...contents: Uint8Array[]): Buffer {
  const content = Buffer.concat(contents);
  const length: number[] = [];
  if (content.length < 0x80) length.push(content.length);
  else {
    for (let n = content.length; n > 0; n >>>= 8) length.unshift(n & 0xff);
    length.unshift(0x80 | length.length);
  }
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
}

export interface DerElement {
  tag: number;
  /** Tag, length and content. */
  whole: Buffer;
  content: Buffer;
}

/** The elements that lie one after the other in `buffer`, at most `limit` of them. */
export function decodeDer(buffer: Buffer, limit = 32): DerElement[] {
  const elements: DerElement[] = [];
  let rest = buffer;
  while (rest.length > 0) {
    if (elements.length >= limit) throw protocolError('a security token with too many elements');
    const tag = rest[0]!;
    let length = rest[1];
    if (length === undefined) throw protocolError('a security token cut short');
    let at = 2;
    if (length >= 0x80) {
      const count = length & 0x7f;
      // No token is longer than 64 KiB, the most that a SecurityBufferLength can say.
      if (count === 0 || count > 3 || at + count > rest.length)
        throw protocolError('a security token cut short');
      length = rest.readUIntBE(at, count);
      at += count;
    }
    if (at + length > rest.length) throw protocolError('a security token cut short');
    elements.push({ tag, whole: rest.subarray(0, at + length), content: rest.subarray(at, at + length) });
    rest = rest.subarray(at + length);
  }
  return elements;
}

/** The content of the only element of `buffer`, which has to have `tag`. */
export function unwrapDer(buffer: Buffer, tag: number): Buffer {
  const [element] = decodeDer(buffer);
  if (element?.tag !== tag)
    throw protocolError(`a security token with tag ${element?.tag} where ${tag} is due`);
  return element.content;
}
