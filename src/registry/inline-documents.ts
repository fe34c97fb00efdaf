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
/** Bytes, over all images. */
const MAX_KEPT = 32 << 20;

export interface SmallDocument {
  digest: string;
  bytes: Uint8Array;
}

export class InlineDocuments {
  readonly #kept = new LRUCache<string, Buffer>({
    maxSize: MAX_KEPT,
    sizeCalculation: ({ length }) => length,
  });

  /**
   * Of an image and its teleport artifact, if there is one: the JSON of a list of `digest` and `content`, in base64. All
   * are named by their digests, and of one repository, so that nobody is told what is of another.
   */
  async of(
    repository: Repository,
    image: SmallDocument,
    artifact: Descriptor | undefined,
    readManifest: (repository: string, digest: string) => Promise<{ bytes: Uint8Array } | undefined>,
  ): Promise<Buffer> {
    const key = `${repository.name} ${image.digest} ${artifact?.digest}`;
    const kept = this.#kept.get(key);
    if (kept !== undefined) return kept;
    const read = artifact && (await readManifest(repository.name, artifact.digest));
    const known = read && { digest: artifact.digest, bytes: read.bytes };
    const { found, lacking } = await gather(repository, image, known);
    const documents = found.map(({ digest, bytes }) => ({
      digest,
      content: Buffer.from(bytes).toString('base64'),
    }));
    const encoded = Buffer.from(JSON.stringify(documents));
    // What is not here yet may come.
    if (read !== undefined && !lacking) this.#kept.set(key, encoded);
    return encoded;
  }
}

async function gather(
  repository: Repository,
  image: SmallDocument,
  artifact: SmallDocument | undefined,
): Promise<{ found: SmallDocument[]; lacking: boolean }> {
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
  return { found, lacking };
}
