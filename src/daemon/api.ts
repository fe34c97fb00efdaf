/**
 * The control API of the host daemon, as both sides see it: HTTP with JSON over a Unix socket, under /v1.
 *
 *   GET    /v1/ping                      PingAnswer
 *   GET    /v1/mounts                    { mounts: MountInfo[] }
 *   GET    /v1/mounts/ID                 MountDetails
 *   PUT    /v1/mounts/ID   MountRequest  stream of Lines that ends with { mount } or { error }; the same again is no error
 *   DELETE /v1/mounts/ID?lazy&force      {}
 *   GET    /v1/images                    { images: ImageInfo[] }
 *   PUT    /v1/images/pin  { image }     { image: ImageInfo }; DELETE likewise: unpinned. `image`: a name or digest
 *   DELETE /v1/images      { image }     { image: ImageInfo } as it was; BUSY while it is mounted
 *   POST   /v1/prune       { all? }      PruneAnswer; with `all` pinned images go, too
 *   POST   /v1/pull        PullOrder     stream of Lines that ends with { pulled } or { error }
 *   GET    /v1/cache                     CacheInfo
 *   GET    /metrics                      what Prometheus reads, as text
 *   POST   /v1/launch, /v1/launch/ID/end is for native/launcher (launch-format.ts)
 *   POST   /v1/shutdown    { force? }    {}; BUSY while mounts are there, unless forced
 *   POST   /v1/replace     { command }   {}; the daemon becomes that program, and its mounts go on
 *
 * A failure is { error: ErrorBody } with a status of its family. Streams are lines of JSON (application/x-ndjson).
 */
import type { FetchStats } from '../cache/fetch-stats.js';
import type { LayerSourceStats, MountSettings } from '../mount/mount.js';
import type { ImageRequest } from '../mount/open-image.js';
import type { ImageConfig } from '../oci/image-config.js';
import type { PassedOver } from '../source/registry-transports.js';
import type { SourceKind } from '../source/source.js';

export const API_VERSION = 2;
export const MAX_BODY_BYTES = 1 << 20;
/** Also the name of a directory, and part of a descriptor's name. */
export const MOUNT_ID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;

/** Which image, and how to get it. Paths are absolute. */
export interface ImageOrder extends ImageRequest {
  /** Variables of the caller that sources look at: ORCA_SMB_USER and the like. */
  environment?: Record<string, string>;
}

export interface PullOrder extends ImageOrder, Pick<MountSettings, 'profiles'> {
  /** All blocks, too, and not only what a mount needs to know. */
  blocks?: boolean;
  /** A mount is about to come: what its containers want first is fetched after the answer. */
  willMount?: boolean;
}

export interface MountRequest extends ImageOrder, MountSettings {
  mountpoint: string;
  /** The mount belongs to the container of this directory, and goes when its lock is no longer held. */
  container?: string;
}

export interface SourceInfo {
  kind: SourceKind;
  location: string;
}

export interface MountInfo {
  id: string;
  image: string;
  manifestDigest: string;
  mountpoint: string;
  container?: string;
  /** Milliseconds since 1970. */
  createdAt: number;
  layers: number;
  /** Best first. */
  sources: SourceInfo[];
  /** Transports that were offered and are not used, with the reason. */
  passedOver: PassedOver[];
  /** `served by LOCATION (KIND, because …)`; empty while no source is open. */
  served: string;
  /** Why no source is open at the moment. */
  problem?: string;
  hitRatio: number;
  bytesRead: number;
  config: ImageConfig['process'];
}

export interface LayerInfo {
  diffID: string;
  blocks: number;
  blocksPresent: number;
  sources: LayerSourceStats[];
}

export interface MountDetails extends MountInfo {
  readAhead?: number;
  requests: Record<string, number>;
  errors: Record<string, number>;
  readsWaiting: number;
  perLayer: LayerInfo[];
}

export interface ImageInfo {
  image: string;
  manifestDigest: string;
  layers: number;
  /** Of the cache's disk; what several images have counts for each. */
  bytesCached: number;
  /** Evicted last, and never pruned. */
  pinned: boolean;
  /** Of this daemon. */
  mounts: number;
  lastUsedAt: number;
}

export interface PulledImage extends ImageInfo {
  /** Bytes of the layer VHDs that this host has expanded itself. */
  expandedHere: number;
}

export interface PruneAnswer {
  /** Those that are gone, as they were. */
  images: ImageInfo[];
  /** Of the cache's disk. */
  bytesFreed: number;
}

export interface CacheInfo extends FetchStats {
  directory: string;
  limit: number;
  used: number;
  bytesEvicted: number;
}

export interface PingAnswer {
  version: string;
  api: number;
  pid: number;
  /** Milliseconds since 1970; another one means another daemon. */
  startedAt: number;
  /** False when a crash of the daemon would end its mounts. */
  supervised: boolean;
  mounts: number;
  cache: string;
  runDirectory: string;
  /** Mount namespace and root (order.ts): where they are others than the caller's, so are the files at a path. */
  fileTree: string;
  /** Bytes of memory. */
  residentBytes: number;
  /** Milliseconds from the start of the process until every adopted mount was served; how many those were. */
  adoption: { milliseconds: number; mounts: number };
  /** URL of the HTTP port, where there is one. */
  http?: string;
}

export interface ErrorBody {
  code: string;
  message: string;
  retryable?: boolean;
}

export type Line =
  | { log: { level: 'info' | 'warn' | 'error'; message: string } }
  | { progress: { done: number; total: number } }
  | { mount: MountInfo }
  | { pulled: PulledImage }
  | { error: ErrorBody };
