/** What the threads of worker.ts do. */
import type { Descriptor } from '../../oci/manifest.js';

interface LayerTask {
  /** Descriptor of the blob. */
  blob: Descriptor;
  /** What the image config says that the blob holds. */
  diffID: string;
}

/** Makes a layer VHD in the store, or finds that it is there and the blob is one of it. */
export interface ExpandTask extends LayerTask {
  kind: 'expand';
  /** Path of the store. */
  store: string;
}

/** Merges the layers of an image, which are in the share's store already, and enters the image there. */
export interface PublishTask {
  kind: 'publish';
  /** Path of the repository's store. */
  share: string;
  manifest: Descriptor;
  manifestBytes: Uint8Array;
  configBytes: Uint8Array;
  diffIDs: readonly string[];
  /** Canonical names. */
  names: readonly string[];
}

/** Bytes of the layer VHD. */
export interface ExpandResult {
  bytes: number;
}

/** Descriptor of the teleport artifact, which the share's store has. */
export interface PublishResult {
  artifact: Descriptor;
}

export interface ExpansionTasks {
  expand: { task: ExpandTask; result: ExpandResult };
  publish: { task: PublishTask; result: PublishResult };
}
