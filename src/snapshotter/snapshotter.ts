/**
 * Snapshots in overlayfs, as containerd expects them of a snapshotter, and layers of images that nobody has to unpack.
 *
 * When containerd is about to unpack a layer of an image that can be mounted, the answer is that the snapshot exists
 * already: containerd then neither downloads nor unpacks it. Such a snapshot is a line in the store.
 * What is mounted, when a container needs it, is the image, once, whatever its number of layers.
 */
import { existsSync } from 'node:fs';
import { chown, mkdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Logger, log } from '../telemetry/logger.js';
import { diskUsage } from './disk-usage.js';
import { parseFilters } from './filter.js';
import type { RemoteImages } from './remote-images.js';
import { type AnnotatedLayer, annotatedLayer, chainIDs } from './remote-labels.js';
import type { Labels, MountSpec, RemoteLayer, Snapshot, SnapshotInfo, Usage } from './snapshot.js';
import { SnapshotError } from './snapshot-error.js';
import { SnapshotStore } from './snapshot-store.js';

export interface SnapshotterOptions {
  /** Directory for everything; on a file system that overlayfs takes as its upper layer. */
  root: string;
  /** Without it all snapshots are ordinary ones. */
  images?: RemoteImages;
  logger?: Logger;
}

/** Directory of a snapshot with what it adds to its parent. */
const FS = 'fs';
const WORK = 'work';
/** Below the directory of a remote snapshot: where its image is mounted. */
const IMAGE = 'image';

export class Snapshotter {
  readonly #store: SnapshotStore;
  readonly #images: RemoteImages | undefined;
  readonly #log: Logger;
  /** The second lower layer of a view of one layer, since overlayfs wants two. */
  readonly #empty: string;

  private constructor(options: SnapshotterOptions, root: string, store: SnapshotStore, logger: Logger) {
    this.#store = store;
    this.#images = options.images;
    this.#log = logger;
    this.#empty = join(root, 'empty');
  }

  static async open(options: SnapshotterOptions): Promise<Snapshotter> {
    const root = resolve(options.root);
    if (/[:,\\]/.test(root)) {
      throw new SnapshotError(
        'INVALID_ARGUMENT',
        `${root}: overlayfs takes no path with a colon, comma or backslash`,
      );
    }
    const logger = options.logger ?? log;
    await mkdir(join(root, 'empty'), { recursive: true, mode: 0o700 });
    const snapshotter = new Snapshotter(options, root, await SnapshotStore.open(root, logger), logger);
    await snapshotter.#remount();
    return snapshotter;
  }

  /** What containerd is to mount for a new snapshot that can be written. */
  async prepare(key: string, parent: string, labels: Labels): Promise<MountSpec[]> {
    const layer = annotatedLayer(labels);
    if (layer !== undefined && (await this.#adopt(layer, parent, labels))) {
      throw new SnapshotError(
        'ALREADY_EXISTS',
        `snapshot ${layer.target} of ${layer.reference} needs no unpacking`,
      );
    }
    return this.#create('active', key, parent, labels);
  }

  /** The same for one that cannot be written. */
  view(key: string, parent: string, labels: Labels): Promise<MountSpec[]> {
    return this.#create('view', key, parent, labels);
  }

  async mounts(key: string): Promise<MountSpec[]> {
    const snapshot = this.#store.get(key);
    if (snapshot.kind === 'committed') {
      throw new SnapshotError('FAILED_PRECONDITION', `snapshot ${key} is committed: prepare or view it`);
    }
    return this.#mountsOf(snapshot);
  }

  async commit(key: string, name: string, labels: Labels, parent = ''): Promise<void> {
    const usage = await diskUsage(this.#path(this.#store.get(key), FS));
    await this.#store.commit(key, name, labels, usage, parent);
  }

  async remove(key: string): Promise<void> {
    await this.#store.remove(key, async (snapshot) => {
      if (snapshot.remote !== undefined) await this.#images?.unmount(this.#path(snapshot, IMAGE));
    });
  }

  stat(key: string): SnapshotInfo {
    return this.#store.get(key);
  }

  update(info: Pick<SnapshotInfo, 'name' | 'labels'>, paths: readonly string[]): Promise<SnapshotInfo> {
    return this.#store.update(info, paths);
  }

  /** Throws SnapshotError INVALID_ARGUMENT for a filter that is none. */
  list(filters: readonly string[]): SnapshotInfo[] {
    const matches = parseFilters(filters);
    return [...this.#store.all()].filter((snapshot) => matches((path) => fieldOf(snapshot, path)));
  }

  /** Of what the snapshot itself adds; nothing for a layer of a remote image. */
  async usage(key: string): Promise<Usage> {
    const snapshot = this.#store.get(key);
    if (snapshot.kind === 'active') return diskUsage(this.#path(snapshot, FS));
    return snapshot.usage ?? { size: 0, inodes: 0 };
  }

  async cleanUp(): Promise<void> {
    await this.#store.cleanUp();
  }

  async #create(kind: 'view' | 'active', name: string, parent: string, labels: Labels): Promise<MountSpec[]> {
    const snapshot = await this.#store.create({ kind, name, parent, labels }, async (directory) => {
      await mkdir(join(directory, FS), { mode: 0o755 });
      if (kind === 'active') await mkdir(join(directory, WORK), { mode: 0o711 });
      if (parent !== '') await this.#copyOwner(parent, join(directory, FS));
    });
    try {
      return await this.#mountsOf(snapshot);
    } catch (error) {
      // Nobody knows of it yet; containerd may ask again with the same key.
      await this.#store.remove(name).catch(() => undefined);
      throw error;
    }
  }

  /** The root of the new upper layer belongs to whom the root of the parent belongs. */
  async #copyOwner(parent: string, path: string): Promise<void> {
    const snapshot = this.#store.get(parent);
    if (snapshot.remote !== undefined) return;
    const { uid, gid } = await stat(this.#path(snapshot, FS));
    await chown(path, uid, gid);
  }

  async #mountsOf(snapshot: Snapshot): Promise<MountSpec[]> {
    const isView = snapshot.kind === 'view';
    const own = this.#path(snapshot, FS);
    const lower = await this.#lowerLayers(snapshot);
    if (lower.length === 0) return [{ type: 'bind', source: own, options: [isView ? 'ro' : 'rw', 'rbind'] }];
    const options = overlayOptions(isView);
    if (!isView) options.push(`workdir=${this.#path(snapshot, WORK)}`, `upperdir=${own}`);
    else if (lower.length === 1) lower.push(this.#empty);
    options.push(`lowerdir=${lower.join(':')}`);
    return [{ type: 'overlay', source: 'overlay', options }];
  }

  /** The directories below a snapshot, uppermost first, with the image of the remote ones mounted. */
  async #lowerLayers(snapshot: Snapshot): Promise<string[]> {
    const lower: string[] = [];
    for (const ancestor of this.#store.ancestors(snapshot)) {
      if (ancestor.remote !== undefined) {
        lower.push(await this.#mountImage(ancestor, ancestor.remote));
        break;
      }
      lower.push(this.#path(ancestor, FS));
    }
    return lower;
  }

  async #mountImage(snapshot: Snapshot, remote: RemoteLayer): Promise<string> {
    const mountpoint = this.#path(snapshot, IMAGE);
    if (this.#images === undefined) {
      throw new SnapshotError(
        'UNAVAILABLE',
        `${remote.reference} was pulled lazily, which is switched off now`,
      );
    }
    try {
      await mkdir(mountpoint, { recursive: true, mode: 0o700 });
      await this.#images.mount(remote, remote.layers, mountpoint);
    } catch (cause) {
      const why = (cause as Error).message;
      throw new SnapshotError('UNAVAILABLE', `${remote.reference} cannot be mounted: ${why}`, { cause });
    }
    return mountpoint;
  }

  /** True when the layer is that of an image that can be mounted, and its snapshot is there now. */
  async #adopt(layer: AnnotatedLayer, parent: string, labels: Labels): Promise<boolean> {
    if (this.#images === undefined) return false;
    if (this.#isThere(layer, parent)) return true;
    if (parent !== '' && this.#store.get(parent).remote === undefined) return false;
    const found = await this.#images.find(layer.reference, layer.manifestDigest);
    if ('reason' in found) {
      this.#log.info(`${layer.reference} is unpacked here, not mounted: ${found.reason}`);
      return false;
    }
    const { reference, manifestDigest, blobs, diffIDs } = found;
    // The client's layer must be the very one: same blob, at the place where its ancestors put it.
    const index = chainIDs(diffIDs).indexOf(layer.target);
    if (index < 0 || blobs[index] !== layer.blob) {
      this.#log.warn(
        `${layer.reference} is unpacked here, not mounted: ${layer.blob} is no layer of ${manifestDigest}`,
      );
      return false;
    }
    const remote = { reference, manifestDigest, layers: index + 1 };
    const snapshot = { kind: 'committed' as const, name: layer.target, parent, labels, remote };
    try {
      await this.#store.create(snapshot, async () => {});
    } catch (error) {
      // Two clients pull one image at once.
      if (error instanceof SnapshotError && error.code === 'ALREADY_EXISTS')
        return this.#isThere(layer, parent);
      throw error;
    }
    return true;
  }

  /**
   * containerd looks for the snapshot on this very parent. In another of its namespaces, where the parent was unpacked,
   * it is on another.
   */
  #isThere({ target }: AnnotatedLayer, parent: string): boolean {
    return this.#store.has(target) && this.#store.get(target).parent === parent;
  }

  /** Mounts again what snapshots in use need: after a reboot nothing is mounted any more. */
  async #remount(): Promise<void> {
    for (const snapshot of this.#store.all()) {
      if (snapshot.kind === 'committed') continue;
      await this.#lowerLayers(snapshot).catch((error: Error) => this.#log.warn(error.message));
    }
  }

  #path(snapshot: Snapshot, name: string): string {
    return join(this.#store.directoryOf(snapshot), name);
  }
}

/**
 * No index: an upper layer becomes a lower one when it is committed, and may then lie below several mounts.
 * Redirects: without them a directory of a lower layer cannot be renamed (EXDEV), which package managers do.
 */
function overlayOptions(isView: boolean): string[] {
  const options: string[] = [];
  if (existsSync(`${PARAMETERS}/index`)) options.push('index=off');
  if (existsSync(`${PARAMETERS}/redirect_dir`)) options.push(`redirect_dir=${isView ? 'follow' : 'on'}`);
  return options;
}

const PARAMETERS = '/sys/module/overlay/parameters';

function fieldOf({ name, parent, kind, labels }: SnapshotInfo, path: readonly string[]): string | undefined {
  const [first, ...rest] = path;
  switch (first) {
    case 'labels':
      return Object.hasOwn(labels, rest.join('.')) ? labels[rest.join('.')] : undefined;
    case 'name':
      return name;
    case 'parent':
      // A snapshot without one has the field, too.
      return parent ?? '';
    case 'kind':
      return kind;
    default:
      return undefined;
  }
}
