/** Finding out whether a blob is a certain layer, without laying it out. */
import { createHash } from 'node:crypto';
import { BlobReader } from './blob-reader.js';
import { decompress } from './decompress.js';
import { MAX_TAR_BYTES } from './expand.js';
import { LayerError } from './layer-error.js';

export interface VerifyOptions {
  /** Digest that the uncompressed tar must have, as `sha256:…`. */
  diffID: string;
  signal?: AbortSignal;
  /** After each chunk: bytes of the blob that have been read. */
  onProgress?(bytesIn: number): void;
}

/** Throws LayerError DIGEST_MISMATCH, CORRUPT or TOO_LARGE, and what `blob` or the signal throws. */
export async function verifyTar(blob: AsyncIterable<Uint8Array>, options: VerifyOptions): Promise<void> {
  const { diffID, signal, onProgress } = options;
  const reader = new BlobReader(blob);
  const hash = createHash('sha256');
  let length = 0;
  try {
    for await (const chunk of decompress(reader)) {
      signal?.throwIfAborted();
      hash.update(chunk);
      length += chunk.length;
      if (length > MAX_TAR_BYTES) {
        throw new LayerError('TOO_LARGE', `layer: more than ${MAX_TAR_BYTES} bytes uncompressed`);
      }
      onProgress?.(reader.bytesRead);
    }
    // Whoever verifies the blob does so at its end, which a decompressor may not have asked for.
    await reader.digest(signal);
  } finally {
    await reader.close();
  }
  const digest = `sha256:${hash.digest('hex')}`;
  if (digest === diffID) return;
  throw new LayerError(
    'DIGEST_MISMATCH',
    `the uncompressed layer has the digest ${digest}, but should have ${diffID}`,
  );
}
