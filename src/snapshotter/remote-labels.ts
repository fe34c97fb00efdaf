/**
 * What clients of containerd tell a snapshotter of the layer that they are about to unpack: the CRI plugin and
 * `ctr-remote images rpull` annotate their layers, each in its own words.
 */
import { createHash } from 'node:crypto';
import type { Labels } from './snapshot.js';

/** Name of the snapshot that the unpacked layer would get: the chain ID of the OCI image specification. */
export const TARGET_LABEL = 'containerd.io/snapshot.ref';

const REFERENCE_LABELS = [
  'containerd.io/snapshot/cri.image-ref',
  'containerd.io/snapshot/remote/stargz.reference',
];
const LAYER_LABELS = [
  'containerd.io/snapshot/cri.layer-digest',
  'containerd.io/snapshot/remote/stargz.digest',
];
const MANIFEST_LABEL = 'containerd.io/snapshot/cri.manifest-digest';

export interface AnnotatedLayer {
  /** Name that the committed snapshot must have. */
  readonly target: string;
  readonly reference: string;
  /** Digest of the compressed layer. */
  readonly blob: string;
  readonly manifestDigest: string | undefined;
}

/** Undefined for the snapshots of clients that say less, and for containers. */
export function annotatedLayer(labels: Labels): AnnotatedLayer | undefined {
  const target = labels[TARGET_LABEL];
  const reference = firstOf(labels, REFERENCE_LABELS);
  const blob = firstOf(labels, LAYER_LABELS);
  if (!target || !reference || !blob) return undefined;
  return { target, reference, blob, manifestDigest: labels[MANIFEST_LABEL] };
}

function firstOf(labels: Labels, names: readonly string[]): string | undefined {
  return names.map((name) => labels[name]).find(Boolean);
}

/** The chain IDs of the layers, lowest first (OCI image specification, "Layer ChainID"). */
export function chainIDs(diffIDs: readonly string[]): string[] {
  const chain: string[] = [];
  for (const diffID of diffIDs) {
    const below = chain.at(-1);
    chain.push(below === undefined ? diffID : sha256(`${below} ${diffID}`));
  }
  return chain;
}

function sha256(text: string): string {
  return `sha256:${createHash('sha256').update(text).digest('hex')}`;
}
