/**
 * Digests of the OCI image specification (descriptor.md, "Digests"): `algorithm:encoded`, here with the two
 * registered algorithms, and readers that verify what they pass on.
 */
import { createHash, hash } from 'node:crypto';
import { OciError } from './oci-error.js';

export type DigestAlgorithm = 'sha256' | 'sha512';

export interface DigestParts {
  algorithm: DigestAlgorithm;
  /** Lower-case hexadecimal: 64 characters for sha256, 128 for sha512. */
  hex: string;
}

const HEX_LENGTH: Record<DigestAlgorithm, number> = { sha256: 64, sha512: 128 };
const SUPPORTED = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;
const GRAMMAR = /^[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$/;
/** No digest that we support is longer; also bounds what an error message repeats. */
const MAX_DIGEST_LENGTH = 7 + 128;

/** Splits a digest; `what` names the thing in the message. Throws INVALID_DIGEST, or UNSUPPORTED for an algorithm other than sha256 and sha512. */
export function parseDigest(text: string, what = 'digest'): DigestParts {
  if (SUPPORTED.test(text)) {
    return { algorithm: text.startsWith('sha256') ? 'sha256' : 'sha512', hex: text.slice('sha256:'.length) };
  }
  if (text.length > MAX_DIGEST_LENGTH || !GRAMMAR.test(text)) {
    throw new OciError(
      'INVALID_DIGEST',
      `${what}: ${printable(text)} is not a digest (sha256:<64 hex digits>)`,
    );
  }
  const colon = text.indexOf(':');
  const algorithm = text.slice(0, colon);
  if (algorithm !== 'sha256' && algorithm !== 'sha512') {
    throw new OciError(
      'UNSUPPORTED',
      `${what}: digest algorithm ${algorithm} is not supported (sha256, sha512)`,
    );
  }
  throw new OciError(
    'INVALID_DIGEST',
    `${what}: ${printable(text)} needs ${HEX_LENGTH[algorithm]} lower-case hex digits after ${algorithm}:`,
  );
}

/** True of what parseDigest accepts. */
export function isDigest(text: string): boolean {
  return SUPPORTED.test(text);
}

export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): string {
  return `${algorithm}:${hash(algorithm, bytes, 'hex')}`;
}

/** What a blob has to be: `size` in bytes. */
export interface Expected {
  digest: string;
  size: number;
}

/** Throws SIZE_MISMATCH or DIGEST_MISMATCH, naming `what`, unless the bytes are the expected ones. */
export function verifyBytes(bytes: Uint8Array, expected: Expected, what: string): void {
  checkSize(bytes.length, expected, what);
  checkDigest(digestOf(bytes, parseDigest(expected.digest, what).algorithm), expected, what);
}

/**
 * Passes a blob through while it hashes it. Throws SIZE_MISMATCH as soon as there is a byte too many, and at the
 * end SIZE_MISMATCH or DIGEST_MISMATCH: a consumer must not act on the bytes before the stream has ended well.
 */
export async function* verifyStream(
  source: AsyncIterable<Uint8Array>,
  expected: Expected,
  what: string,
): AsyncGenerator<Uint8Array, void, void> {
  const { algorithm } = parseDigest(expected.digest, what);
  const hash = createHash(algorithm);
  let length = 0;
  for await (const chunk of source) {
    length += chunk.length;
    if (length > expected.size) checkSize(length, expected, what);
    hash.update(chunk);
    yield chunk;
  }
  checkSize(length, expected, what);
  checkDigest(`${algorithm}:${hash.digest('hex')}`, expected, what);
}

function checkSize(length: number, expected: Expected, what: string): void {
  if (length === expected.size) return;
  const found = length > expected.size ? 'more' : `${length}`;
  throw new OciError(
    'SIZE_MISMATCH',
    `${what} ${expected.digest}: ${expected.size} bytes are declared, ${found} are there; fetch the image again`,
  );
}

function checkDigest(found: string, expected: Expected, what: string): void {
  if (found === expected.digest) return;
  throw new OciError(
    'DIGEST_MISMATCH',
    `${what} ${expected.digest}: the content has digest ${found}; it is corrupt, fetch the image again`,
  );
}

/** Text of unknown origin for an error message: quoted, cut, without control characters. */
export function printable(text: string): string {
  return JSON.stringify(text.length > 160 ? `${text.slice(0, 160)}…` : text);
}
