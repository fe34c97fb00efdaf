/**
 * The expansion service as the rest of the registry sees it, and where it gets manifests and blobs from: the
 * embedded registry's storage, or the registry that a gateway stands before.
 */
import type { Descriptor, Platform } from '../../oci/manifest.js';

/** `queued` also of what has failed for now and is tried again; the reason then says why. */
export type ExpansionState = 'queued' | 'expanding' | 'expanded' | 'failed';

export interface LayerStatus {
  /** Of the blob. */
  digest: string;
  /** Known once the image's config has been read. */
  diffID?: string;
  status: ExpansionState;
  reason?: string;
  /** Of the layer VHD when it is expanded; of the blob, as far as it has been read, while it is being expanded. */
  bytes?: number;
  /** Of the blob. */
  total: number;
}

export interface ImageExpansion {
  state: ExpansionState;
  reason?: string;
  /** Lowest first; empty before the manifest has been looked at. */
  layers: LayerStatus[];
  /** By the image's config, once it is expanded, unless that was long ago. */
  platform?: Platform;
  /** The teleport artifact, once the image is expanded; the repository has it as a manifest. */
  artifact?: Descriptor;
}

/** An image that `enqueueRepository` has found. */
export interface QueuedImage {
  digest: string;
  /** Those that lead to it, also by way of an index. */
  tags: string[];
}

export interface Expansion {
  /**
   * Has the image expanded, or the images of an index, and named by `tags` in the repository's store. On the disk
   * when it resolves. Does nothing where that is done already, and ignores what is no image.
   */
  enqueue(repository: string, manifestDigest: string, tags?: readonly string[]): Promise<void>;
  /**
   * Enqueues what a tag or digest stands for, or all tagged images. Images that are expanded are looked at again,
   * and failed ones get another chance. Empty when there is nothing of the kind.
   */
  enqueueRepository(repository: string, reference?: string): Promise<QueuedImage[]>;
  /** Undefined of what has never been queued, is no image, or is an index. */
  status(repository: string, manifestDigest: string): Promise<ImageExpansion | undefined>;
  /**
   * To be called when a manifest has been deleted: takes the image out of the repository's store. When it was a
   * teleport artifact, its `subject` is expanded again.
   */
  forget(repository: string, manifestDigest: string, subject?: string): Promise<void>;
  /** How many images wait or are in work, and what has come of attempts since the start. */
  counts(): ExpansionCounts;
  /** To be called when a tag has been deleted. */
  forgetTag(repository: string, tag: string): Promise<void>;
  /** The directory of the repository's Orca store; it may not be there yet. */
  sharePath(repository: string): string;
  /** Removes what no image uses and has not been used for `grace` milliseconds. */
  collectGarbage(grace: number): Promise<StoreGarbage>;
  /** Breaks off what is being done, which is taken up again at the next start. */
  close(): Promise<void>;
}

export interface ExpansionResults {
  expanded: number;
  failed: number;
  /** Attempts that are made again. */
  retried: number;
}

export interface ExpansionCounts {
  queued: number;
  expanding: number;
  results: ExpansionResults;
}

export interface StoreGarbage {
  /** Images that a repository's store has lost, since the repository has lost them. */
  images: number;
  /** Layer VHDs that have been removed, and their bytes. */
  layers: number;
  bytes: number;
}

/** What is to be stored as a manifest of the repository. */
export interface ArtifactToStore {
  descriptor: Descriptor;
  /** Of the manifest; its subject is the image. */
  bytes: Uint8Array;
  /** The blobs that it names, and where they lie; the files may be linked, and must not be changed. */
  blobs: readonly { descriptor: Descriptor; path: string }[];
}

/**
 * The repositories whose images are expanded. What is not there is `undefined`; an error means that it is not known,
 * and when it is retryable, or a system error, the service tries again.
 */
export interface BlobOrigin {
  /** At most MAX_MANIFEST_BYTES, with the digest that was asked for. */
  readManifest(
    repository: string,
    digest: string,
    signal?: AbortSignal,
  ): Promise<{ mediaType: string; bytes: Uint8Array } | undefined>;
  /**
   * Bytes of a blob that this repository has. It must be undefined for a blob that only other repositories have: the
   * layer that was made of it becomes readable to those who may pull from this one.
   */
  blobSize(repository: string, descriptor: Descriptor, signal?: AbortSignal): Promise<number | undefined>;
  /** The bytes need not be verified. */
  openBlob(repository: string, descriptor: Descriptor, signal?: AbortSignal): AsyncIterable<Uint8Array>;
  /** Path of the blob where it is a file, which the worker then reads itself. */
  blobFile?(digest: string): string;
  tags(repository: string, signal?: AbortSignal): Promise<string[]>;
  resolve(repository: string, tag: string, signal?: AbortSignal): Promise<string | undefined>;
  /** False when the subject is not in the repository any more; nothing is stored then. */
  storeArtifact(repository: string, artifact: ArtifactToStore): Promise<boolean>;
  /** True of an image or a teleport artifact that the repository has. */
  hasManifest(repository: string, digest: string): Promise<boolean>;
  removeArtifact(repository: string, digest: string): Promise<void>;
}
