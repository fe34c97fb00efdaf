/** Images of registries that can be mounted without being pulled, as the snapshotter needs them. */

/** An image that its registry or this host has expanded, or whose layers can be read by their tables of contents. */
export interface RemoteImageInfo {
  readonly reference: string;
  /** Of the image of this platform. */
  readonly manifestDigest: string;
  /** Digests of the compressed layers, lowest first. */
  readonly blobs: readonly string[];
  /** diffIDs of the layers, lowest first. */
  readonly diffIDs: readonly string[];
}

export interface RemoteImages {
  /**
   * The image that a reference stands for, made so that it can be mounted, which takes as long as downloading it where
   * nobody has expanded it; otherwise why it cannot be. Never rejects for what a registry does: the snapshot is then
   * an ordinary one. Rejects with SnapshotError UNAVAILABLE when the snapshotter ends meanwhile.
   */
  find(reference: string, manifestDigest: string | undefined): Promise<RemoteImageInfo | { reason: string }>;
  /**
   * Mounts the lowest `layers` layers of the image at a directory that exists; does nothing when they are mounted
   * there. Rejects when that is not possible now.
   */
  mount(
    image: { reference: string; manifestDigest: string },
    layers: number,
    mountpoint: string,
  ): Promise<void>;
  /** Does nothing where nothing is mounted. */
  unmount(mountpoint: string): Promise<void>;
}
