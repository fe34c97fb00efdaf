/** Images of registries that can be mounted without being pulled, as the snapshotter needs them. */

/** An image that its registry has expanded. */
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
   * The image that a reference stands for, when it can be mounted at once; otherwise why not. Never rejects for what
   * a registry does: the snapshot is then an ordinary one.
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
