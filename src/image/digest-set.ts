/** The block digests of all layers of an image in one document: docs/FORMAT.md, "Teleport artifact". */
import { BlockDigests } from '../layer/block-digests.js';
import { type Expected, verifyBytes } from '../oci/digest.js';

/** Where the block digests of an image are: each blob with the documents that it consists of. */
export function digestBlobs<T extends Expected>(
  documents: readonly T[],
  set: T | undefined,
): { blob: T; documents: readonly T[] }[] {
  return set === undefined
    ? documents.map((blob) => ({ blob, documents: [blob] }))
    : [{ blob: set, documents }];
}

/**
 * The documents that a set consists of, each verified by itself, since layers are kept by their names. Throws OciError
 * for bytes that are not those documents, LayerError CORRUPT for a document that is malformed.
 */
export function decodeDigestSet(set: Uint8Array, documents: readonly Expected[]): BlockDigests[] {
  let end = 0;
  return documents.map((document) => {
    const encoded = set.subarray(end, (end += document.size));
    verifyBytes(encoded, document, 'block digests');
    const { digest } = document;
    return BlockDigests.decode(encoded, digest.startsWith('sha256:') ? digest : undefined);
  });
}
