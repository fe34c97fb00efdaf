/** The images that a tag or a digest of a repository stands for, or all that it has a tag for. */
import { isIndexType, isManifestType } from '../../oci/manifest.js';
import { isTag } from '../../oci/reference.js';
import type { BlobOrigin } from './expansion.js';
import { planImage } from './image-plan.js';

/** Indexes in indexes; nobody nests more than twice, and a loop has to end. */
const MAX_DEPTH = 4;

export interface FoundImage {
  digest: string;
  /** Tags that are to be its names, with the digest that each stands for. */
  tags: Record<string, string>;
  /** All tags that lead to it. */
  seenBy: Set<string>;
}

export async function findImages(
  origin: BlobOrigin,
  repository: string,
  reference: string | undefined,
): Promise<FoundImage[]> {
  const targets = new Map<string, string[]>();
  const tags = reference === undefined ? await origin.tags(repository) : isTag(reference) ? [reference] : [];
  for (const tag of tags) {
    const digest = await origin.resolve(repository, tag);
    if (digest !== undefined) targets.set(digest, [...(targets.get(digest) ?? []), tag]);
  }
  if (reference !== undefined && !isTag(reference)) targets.set(reference, []);
  const found = new Map<string, FoundImage>();
  for (const [digest, itsTags] of targets) {
    const names = Object.fromEntries(itsTags.map((tag) => [tag, digest]));
    await descend(origin, repository, { digest, names, seenBy: itsTags }, found, 0);
  }
  return [...found.values()];
}

async function descend(
  origin: BlobOrigin,
  repository: string,
  from: { digest: string; names: Record<string, string>; seenBy: readonly string[] },
  found: Map<string, FoundImage>,
  depth: number,
): Promise<void> {
  const { digest, names, seenBy } = from;
  const manifest = await origin.readManifest(repository, digest);
  if (manifest === undefined) return;
  if (isManifestType(manifest.mediaType)) {
    const image = found.get(digest) ?? { digest, tags: {}, seenBy: new Set() };
    Object.assign(image.tags, names);
    for (const tag of seenBy) image.seenBy.add(tag);
    found.set(digest, image);
  } else if (isIndexType(manifest.mediaType) && depth < MAX_DEPTH) {
    const plan = await planImage(origin, repository, digest);
    if (plan.kind !== 'index') return;
    for (const child of plan.manifests) {
      const its = child === plan.named ? names : {};
      await descend(origin, repository, { digest: child, names: its, seenBy }, found, depth + 1);
    }
  }
}
