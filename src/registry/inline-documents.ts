/**
 * The documents that come with an answer of the mount API: what every host asks for next, as far as it is small and kept
 * here. Hosts that start one image ask one after the other: what was gathered last is kept.
 */
import { LRUCache } from 'lru-cache';
import { parseTeleportArtifact } from '../image/artifact.js';
import type { Descriptor } from '../oci/manifest.js';
import { parseManifest } from '../oci/manifest.js';
import type { Repository } from './repository.js';

/** Of all documents together; what does not fit is asked for by itself. Clients take answers of 1 MiB, in base64 as well. */
const MAX_INLINE_BYTES = 576 << 10;
/** What an answer says of a layer takes less. */
const LAYER_BYTES = 1 << 10;
/** Characters of base64, over all images. */
const MAX_KEPT = 32 << 20;

export interface SmallDocument {
  digest: string;
  bytes: Uint8Array;
}

export interface InlineDocument {
  digest: string;
  /** Base64. */
  content: string;
}

export class InlineDocuments {
  readonly #kept = new LRUCache<string, InlineDocument[]>({
    maxSize: MAX_KEPT,
    sizeCalculation: (documents) =>
      documents.reduce((sum, { digest, content }) => sum + digest.length + content.length, 0) || 1,
  });

  /**
   * Of an image and its teleport artifact, if there is one. All are named by their digests, and of one repository, so
   * that nobody is told what is of another.
   */
  async of(
    repository: Repository,
    image: SmallDocument,
    artifact: Descriptor | undefined,
    readManifest: (repository: string, digest: string) => Promise<{ bytes: Uint8Array } | undefined>,
  ): Promise<InlineDocument[]> {
    const key = `${repository.name} ${image.digest} ${artifact?.digest}`;
    const kept = this.#kept.get(key);
    if (kept !== undefined) return kept;
    const read = artifact && (await readManifest(repository.name, artifact.digest));
    const { documents, lacking } = await gather(
      repository,
      image,
      read && { digest: artifact.digest, bytes: read.bytes },
    );
    // What is not here yet may come.
    if (read !== undefined && !lacking) this.#kept.set(key, documents);
    return documents;
  }
}

async function gather(
  repository: Repository,
  image: SmallDocument,
  artifact: SmallDocument | undefined,
): Promise<{ documents: InlineDocument[]; lacking: boolean }> {
  const { config, layers } = parseManifest(image.bytes);
  const found: SmallDocument[] = [];
  let lacking = false;
  let left = MAX_INLINE_BYTES - layers.length * LAYER_BYTES;
  const add = (one: SmallDocument) => {
    if (one.bytes.length > left) return;
    left -= one.bytes.length;
    found.push(one);
  };
  add(image);
  if (artifact !== undefined) {
    add(artifact);
    const {
      imageIndex,
      packedIndex = imageIndex,
      digestSet,
      digests,
    } = parseTeleportArtifact(artifact.bytes);
    const [first, second] = digests;
    const blockDigests = second === undefined ? first?.descriptor : digestSet;
    for (const { digest, size } of [config, blockDigests ?? [], packedIndex].flat()) {
      if (size > left) continue;
      const bytes = await repository.blob(digest);
      if (bytes === undefined) lacking = true;
      else add({ digest, bytes });
    }
  }
  const documents = found.map(({ digest, bytes }) => ({
    digest,
    content: Buffer.from(bytes).toString('base64'),
  }));
  return { documents, lacking };
}
