/**
 * The store on a local disk (docs/FORMAT.md, "Store"): expands images into it, each layer once, however many
 * processes want it, and leaves nothing half-made behind that a reader could find.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { type ExpandedLayer, expandLayer } from '../layer/expand.js';
import { syncDirectory, writeDurably } from '../oci/durable-file.js';
import type { ImageInput, InputLayer } from '../oci/image-input.js';
import { WritableLayout } from '../oci/layout.js';
import type { Descriptor, ImageIndex } from '../oci/manifest.js';
import { canonicalName } from '../oci/reference.js';
import {
  blockDigestsPath,
  type CatalogImage,
  checkMarker,
  checkpointsPath,
  diffIDHex,
  encodeMarker,
  IMAGES_PATH,
  INDEX_PATH,
  layerPath,
  listImages,
  MARKER_PATH,
  parseCatalog,
  profilePath,
  recipePath,
  resolveName,
  withImage,
} from './catalog.js';
import { ImageError, imageError } from './image-error.js';
import { inParallel } from './in-parallel.js';
import { findArtifact, manifestDescriptor, type PublishableImage, writeArtifact } from './publish.js';
import { removeUnusedBlobs } from './unused-blobs.js';
import { importVhd, synthesizeImage } from './vhd-input.js';
import { WorkArea } from './work-area.js';

export interface LayerProgress {
  /** The diffID; of an imported layer, the path that it comes from. */
  layer: string;
  /**
   * `expanding` while bytes flow; `expanded` when this call has made the layer VHD; `reused` when it was there, or
   * another process made it meanwhile.
   */
  state: 'waiting' | 'expanding' | 'expanded' | 'reused';
  /** Bytes of the blob that have been read, of `total`. */
  bytesIn: number;
  /** Bytes of the layer VHD that have been written. */
  bytesOut: number;
  total: number;
}

export interface ExpandImageOptions {
  /** The name by which the store knows the image; default: that of the input. */
  name?: string;
  /** Layers that are expanded at the same time; default: the number of processors. */
  concurrency?: number;
  /** Of the block digests, in bytes. */
  blockSize?: number;
  signal?: AbortSignal;
  onProgress?(progress: LayerProgress): void;
}

export interface ExpandedImage {
  manifestDigest: string;
  /** The teleport artifact, a blob of the store's images. */
  artifact: Descriptor;
  /** As the store knows it; absent when it is known by the digest only. */
  name?: string;
}

const FOLDERS = ['layers/sha256', 'images', 'profiles/sha256', 'locks', 'tmp'];

export class Store {
  private constructor(
    readonly dir: string,
    private readonly work: WorkArea,
  ) {}

  /**
   * Opens a store; with `create`, makes one of a directory that is missing or empty. Throws ImageError NOT_FOUND,
   * INVALID_STORE, READ_ONLY, NO_SPACE.
   */
  static async open(dir: string, { create = false }: { create?: boolean } = {}): Promise<Store> {
    try {
      const marker = await readFile(join(dir, MARKER_PATH)).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
        throw error;
      });
      if (marker !== undefined) checkMarker(marker, dir);
      else if (create) await Store.make(dir);
      else
        throw new ImageError(
          'NOT_FOUND',
          `store ${dir}: there is none; orca expand --store ${dir} makes one`,
        );
      return new Store(dir, new WorkArea(dir));
    } catch (error) {
      throw imageError(error, `store ${dir}`);
    }
  }

  private static async make(dir: string): Promise<void> {
    await mkdir(dir, { recursive: true });
    const known = new Set(FOLDERS.map((folder) => folder.split('/')[0]));
    for (const name of await readdir(dir)) {
      // Another process may be making the same store at this moment.
      if (known.has(name) || name === MARKER_PATH || name === 'lost+found') continue;
      throw new ImageError(
        'INVALID_STORE',
        `store ${dir}: not empty and not a store; choose another directory`,
      );
    }
    for (const folder of FOLDERS) await mkdir(join(dir, folder), { recursive: true });
    await new WorkArea(dir).holding('index', undefined, async (work) => {
      await WritableLayout.create(join(dir, IMAGES_PATH), work);
      await writeDurably(join(dir, MARKER_PATH), encodeMarker(), work);
    });
  }

  /**
   * Expands an image: its layers, then the merge. What is there already is not done again. Rejects with an
   * ImageError that names the layer or the image that failed; the store then has what had been completed before.
   */
  async expand(input: ImageInput, options: ExpandImageOptions = {}): Promise<ExpandedImage> {
    const name = options.name ?? input.name;
    const known = name === undefined ? undefined : nameForStore(name, options.name === undefined);
    await this.work.removeLitter();
    const layers = [...new Map(input.layers.map((layer) => [layer.diffID, layer])).values()];
    await inParallel(layers, options.concurrency ?? availableParallelism(), options.signal, (layer, signal) =>
      this.expandLayer(layer, { ...options, signal }),
    );
    return this.publish(input, known === undefined ? [] : [known], options.signal);
  }

  /**
   * Makes an image of layers that other tools expanded: files with an uncompressed EROFS file system, raw or in a
   * VHD, lowest first. Its config is empty but for the layers.
   */
  async importVhds(
    paths: readonly string[],
    options: Omit<ExpandImageOptions, 'name'> & { name: string },
  ): Promise<ExpandedImage> {
    const known = nameForStore(options.name, false);
    await this.work.removeLitter();
    const layers: ExpandedLayer[] = [];
    for (const path of paths) layers.push(await this.importOne(path, options));
    return this.publish(synthesizeImage(layers), [known], options.signal);
  }

  /** The images of the store, in the order in which they were added. */
  async images(): Promise<CatalogImage[]> {
    return listImages(await this.catalog());
  }

  /** The absolute path of a file of the store. */
  path(relative: string): string {
    return join(this.dir, relative);
  }

  private async catalog(): Promise<ImageIndex> {
    return parseCatalog(await readFile(this.path(INDEX_PATH)));
  }

  /** Expands one layer, or waits for the process that does. Rejects with an ImageError that names it. */
  async expandLayer(layer: InputLayer, options: Omit<ExpandImageOptions, 'name'> = {}): Promise<void> {
    const { diffID, size: total } = layer;
    const report = (state: LayerProgress['state'], bytesIn: number, bytesOut: number) =>
      options.onProgress?.({ layer: diffID, state, bytesIn, bytesOut, total });
    try {
      if (await this.hasLayer(diffID)) return report('reused', total, 0);
      report('waiting', 0, 0);
      await this.work.holding(diffIDHex(diffID), options.signal, async (work) => {
        if (await this.hasLayer(diffID)) return report('reused', total, 0);
        const expanded = await expandLayer(layer.open(), {
          output: join(work, 'layer.vhd'),
          diffID,
          ...layerOptions(options),
          onProgress: ({ bytesIn, bytesOut }) => report('expanding', bytesIn, bytesOut),
        });
        await this.adoptLayer(expanded, join(work, 'layer.vhd'), work);
        report('expanded', total, expanded.size);
      });
    } catch (error) {
      throw imageError(error, `layer ${diffID}`);
    }
  }

  private async importOne(path: string, options: ExpandImageOptions): Promise<ExpandedLayer> {
    try {
      const status = await stat(path).catch(() => undefined);
      if (!status?.isFile())
        throw new ImageError('NOT_FOUND', `${path}: no such file; check the path after vhd:`);
      const total = status.size;
      const report = (state: LayerProgress['state'], bytesIn: number, bytesOut: number) =>
        options.onProgress?.({ layer: path, state, bytesIn, bytesOut, total });
      return await this.work.holding(`import-${randomUUID()}`, options.signal, async (work) => {
        const output = join(work, 'layer.vhd');
        const layer = await importVhd(path, {
          output,
          ...layerOptions(options),
          onProgress: ({ bytesIn, bytesOut }) => report('expanding', bytesIn, bytesOut),
        });
        await this.work.holding(diffIDHex(layer.diffID), options.signal, async () => {
          const known = await this.hasLayer(layer.diffID);
          if (!known) await this.adoptLayer(layer, output, work);
          report(known ? 'reused' : 'expanded', total, layer.size);
        });
        return layer;
      });
    } catch (error) {
      throw imageError(error, path);
    }
  }

  /** A layer is there when both of its files are; they get their names only when they are complete. */
  async hasLayer(diffID: string): Promise<boolean> {
    const paths = [layerPath(diffID), blockDigestsPath(diffID)];
    const found = await Promise.all(paths.map((path) => stat(this.path(path)).catch(() => undefined)));
    return found.every((status) => status !== undefined);
  }

  /** Recipe and checkpoints first, since the layer counts as there without them. */
  private async adoptLayer(layer: ExpandedLayer, vhd: string, work: string): Promise<void> {
    const { diffID, digests, recipe, checkpoints } = layer;
    if (recipe !== undefined) await writeDurably(this.path(recipePath(diffID)), recipe, work);
    if (checkpoints !== undefined) {
      await writeDurably(this.path(checkpointsPath(diffID)), checkpoints, work);
    }
    await writeDurably(this.path(blockDigestsPath(diffID)), digests.encode(), work);
    await rename(vhd, this.path(layerPath(diffID)));
    await syncDirectory(this.path('layers/sha256'));
  }

  /**
   * Merges layers that are in the store, and enters the image under the canonical `names`, or by its digest alone.
   * Rejects with an ImageError.
   */
  async publish(
    image: PublishableImage,
    names: readonly string[],
    signal?: AbortSignal,
  ): Promise<ExpandedImage> {
    const { manifestDigest } = image;
    const manifest = manifestDescriptor(image);
    const [name] = names;
    try {
      return await this.work.holding(
        `image-${manifestDigest.replace(':', '-')}`,
        signal,
        async (directory) => {
          const layout = await WritableLayout.create(this.path(IMAGES_PATH), directory);
          const artifact =
            (await findArtifact(layout, await this.catalog(), image)) ??
            (await writeArtifact(layout, image, (relative) => this.path(relative)));
          await this.work.holding('index', signal, async () => {
            let catalog = withImage(await this.catalog(), manifest, artifact, name);
            for (const other of names.slice(1)) catalog = withImage(catalog, manifest, artifact, other);
            await layout.writeIndex(catalog);
          });
          return { manifestDigest, artifact, ...(name === undefined ? {} : { name }) };
        },
      );
    } catch (error) {
      throw imageError(error, `image ${name ?? manifestDigest}`);
    }
  }

  /**
   * Changes the list of images. `removeBlobs`: removes what `images/blobs` has for none of them; nobody may publish
   * meanwhile. Rejects with an ImageError.
   */
  async change(
    change: (catalog: ImageIndex) => ImageIndex,
    { removeBlobs = false }: { removeBlobs?: boolean } = {},
  ): Promise<void> {
    try {
      await this.work.holding('index', undefined, async (directory) => {
        const layout = await WritableLayout.create(this.path(IMAGES_PATH), directory);
        const catalog = change(await this.catalog());
        await layout.writeIndex(catalog);
        if (removeBlobs) await removeUnusedBlobs(layout, catalog);
      });
    } catch (error) {
      throw imageError(error, `store ${this.dir}`);
    }
  }

  /** Keeps the startup profile of an image, in place of an earlier one. Rejects with an ImageError. */
  async putProfile(manifestDigest: string, encoded: Uint8Array): Promise<void> {
    try {
      resolveName(await this.catalog(), manifestDigest);
      const path = this.path(profilePath(manifestDigest));
      await mkdir(dirname(path), { recursive: true });
      await this.work.holding(`profile-${manifestDigest.replace(':', '-')}`, undefined, (work) =>
        writeDurably(path, encoded, work),
      );
    } catch (error) {
      throw imageError(error, `startup profile of ${manifestDigest}`);
    }
  }

  /** Removes what killed processes have left behind. */
  removeLitter(): Promise<void> {
    return this.work.removeLitter();
  }
}

/** What of the options concerns the making of one layer VHD. */
function layerOptions({ blockSize, signal }: ExpandImageOptions): {
  blockSize?: number;
  signal?: AbortSignal;
} {
  return { ...(blockSize === undefined ? {} : { blockSize }), ...(signal === undefined ? {} : { signal }) };
}

/** The canonical form of a name that the user (or else the input) gives. */
function nameForStore(name: string, isInputs: boolean): string {
  try {
    return canonicalName(name);
  } catch (error) {
    throw isInputs ? imageError(error, 'the input has an unusable name (give one with --name)') : error;
  }
}
