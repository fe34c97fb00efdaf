/** What a snapshot is: containerd's terms, and where Orca keeps one. */

export type SnapshotKind = 'view' | 'active' | 'committed';

export type Labels = Readonly<Record<string, string>>;

/** Bytes and inodes on the disk. */
export interface Usage {
  size: number;
  inodes: number;
}

export interface SnapshotInfo {
  /** Key of a view or an active snapshot, name of a committed one. */
  readonly name: string;
  /** Name of a committed snapshot, or empty. */
  readonly parent: string;
  readonly kind: SnapshotKind;
  /** Nanoseconds since 1970. */
  readonly createdAt: bigint;
  readonly updatedAt: bigint;
  readonly labels: Labels;
}

/** The layer of an image of a registry that a committed snapshot stands for: nothing of it is on the disk. */
export interface RemoteLayer {
  readonly reference: string;
  readonly manifestDigest: string;
  /** How many layers of the image, from the lowest, the snapshot with its ancestors consists of. */
  readonly layers: number;
}

export interface Snapshot extends SnapshotInfo {
  /** Names its directory; never used again while the directory is there. */
  readonly id: number;
  /** Of what a committed snapshot adds to its parent. */
  readonly usage: Usage | undefined;
  readonly remote: RemoteLayer | undefined;
}

/** What containerd mounts to see a snapshot. */
export interface MountSpec {
  type: string;
  source: string;
  options: string[];
}
