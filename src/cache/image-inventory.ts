/**
 * Which images the cache holds: CACHE/inventory/<hex of the manifest digest>.json, written by every mount, says which
 * layers, which image index and which other blobs belong to an image, and CACHE/pins/<hex> pins it.
 */
import { mkdir, readdir, readFile, rm, stat, unlink, utimes, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { parseDigest } from '../oci/digest.js';
import { replaceFile } from '../oci/durable-file.js';
import { repositoryName } from '../oci/reference.js';
import type { RemoteImage } from '../source/remote-image.js';

export interface ImageUsage {
  /** Manifest digest. */
  image: string;
  /** What it was last mounted by. */
  name: string;
  /** Of disk: blocks, block digests and image index; what images share counts for each of them. */
  bytes: number;
  layers: number;
  pinned: boolean;
  /** Mounted by this process. */
  inUse: boolean;
  /** When it was last mounted, in milliseconds since 1970. */
  lastUse: number;
}

/** An image by its manifest digest, and what it was last mounted by. */
export type NamedImage = Pick<ImageUsage, 'image' | 'name'>;

export interface Relatives {
  /** Last mounted by a name of the same repository; the one that was used last first. */
  versions: NamedImage[];
  /** Of other repositories; those with most layers in common first, and of these the one that was used last. */
  sharing: NamedImage[];
}

interface Recorded {
  hex: string;
  name: string;
  index: string;
  layers: string[];
  /** Other blobs. */
  documents: string[];
  lastUse: number;
}

/** The layer documents of 4096 layers, and some. */
const MAX_DOCUMENTS = 10_000;
/** A record beyond this is not of ours: so many documents and 4096 layers have 950 KB. */
const MAX_RECORD_BYTES = 1 << 20;
/** Records, each of which takes a descriptor. */
const READ_AT_ONCE = 32;
const HEX = /^[0-9a-f]{64}$/;

/** What an inventory needs of the rest of the cache. */
export interface LayerFiles {
  /** By this process or another. */
  isOpen(hex: string): boolean;
  /** Frees the blocks of a layer that is not open. */
  evict(hex: string): Promise<void>;
}

export class ImageInventory {
  readonly #directory: string;
  readonly #files: LayerFiles;
  /** How many mounts of this process each image has, by hex. */
  readonly #mounts = new Map<string, number>();

  constructor(directory: string, files: LayerFiles) {
    this.#directory = directory;
    this.#files = files;
  }

  /** A mount of the image begins; what is returned ends it. Never rejects: without a record, only usage() lacks it. */
  async begin(image: RemoteImage): Promise<() => void> {
    const { hex } = parseDigest(image.manifestDigest);
    this.#mounts.set(hex, (this.#mounts.get(hex) ?? 0) + 1);
    try {
      const record = recordOf(image, await this.#read(hex).catch(() => undefined));
      await mkdir(join(this.#directory, 'inventory'), { recursive: true, mode: 0o700 });
      await replaceFile(this.#recordPath(hex), JSON.stringify(record));
    } catch {}
    return () => {
      const left = (this.#mounts.get(hex) ?? 1) - 1;
      if (left > 0) this.#mounts.set(hex, left);
      else this.#mounts.delete(hex);
    };
  }

  /** Somebody uses a mount of the image that is there already. Never rejects. */
  async touch(manifestDigest: string): Promise<void> {
    const now = new Date();
    await utimes(this.#recordPath(parseDigest(manifestDigest).hex), now, now).catch(() => undefined);
  }

  async pin(manifestDigest: string): Promise<void> {
    const directory = join(this.#directory, 'pins');
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await writeFile(join(directory, parseDigest(manifestDigest).hex), '', { mode: 0o600 });
  }

  async unpin(manifestDigest: string): Promise<void> {
    await rm(join(this.#directory, 'pins', parseDigest(manifestDigest).hex), { force: true });
  }

  /** Largest first. */
  async usage(): Promise<ImageUsage[]> {
    const pins = await this.#pins();
    const sizes = new Map<string, number>();
    const sizeOf = async (path: string): Promise<number> => {
      const known = sizes.get(path) ?? (await bytesOnDisk(path));
      sizes.set(path, known);
      return known;
    };
    const usages: ImageUsage[] = [];
    for (const { hex, name, index, layers, documents, lastUse } of await this.#images()) {
      let bytes = 0;
      for (const blob of new Set([index, ...documents])) bytes += await sizeOf(this.#blobPath(blob));
      for (const layer of new Set(layers)) {
        bytes +=
          (await sizeOf(join(this.#directory, 'layers', `${layer}.data`))) +
          (await sizeOf(this.#blobPath(layer)));
      }
      const inUse = this.#mounts.has(hex);
      const usage = { bytes, layers: layers.length, pinned: pins.has(hex), inUse, lastUse };
      usages.push({ image: `sha256:${hex}`, name, ...usage });
    }
    return usages.sort((a, b) => b.bytes - a.bytes);
  }

  /** Other images that have a startup profile. */
  async relativesOf(image: Pick<RemoteImage, 'name' | 'manifestDigest' | 'devices'>): Promise<Relatives> {
    const repository = repositoryName(image.name);
    const own = new Set(layersOf(image));
    const { hex: ownHex } = parseDigest(image.manifestDigest);
    // Every mount without a profile asks: of most images of a host there is none.
    const profiled = new Set(await readdir(join(this.#directory, 'profiles')).catch(() => []));
    profiled.delete(ownHex);
    const others = (await this.#images(profiled)).sort((a, b) => b.lastUse - a.lastUse);
    const isVersion = ({ name }: Recorded) => repository !== undefined && repositoryName(name) === repository;
    const sharing = others
      .map((other) => ({ other, shared: new Set(other.layers.filter((layer) => own.has(layer))).size }))
      .filter(({ other, shared }) => shared > 0 && !isVersion(other))
      .sort((a, b) => b.shared - a.shared)
      .map(({ other }) => other);
    return { versions: others.filter(isVersion).map(named), sharing: sharing.map(named) };
  }

  /** The layers of pinned images, by the hex digits of their file names. */
  async pinnedLayers(): Promise<Set<string>> {
    const pins = await this.#pins();
    if (pins.size === 0) return pins;
    const images = await this.#images();
    return new Set(images.filter(({ hex }) => pins.has(hex)).flatMap(({ layers }) => layers));
  }

  /** Images that may go: not pinned, not mounted by any process; the one that was used longest ago first. */
  async evictable({ pinned = false } = {}): Promise<string[]> {
    const pins = pinned ? new Set<string>() : await this.#pins();
    const images = (await this.#images()).filter((image) => !pins.has(image.hex) && !this.#isMounted(image));
    return images.sort((a, b) => a.lastUse - b.lastUse).map(({ hex }) => `sha256:${hex}`);
  }

  /**
   * Removes an image, its pin and its startup profile, and what no other image needs: blocks, block digests, image
   * index, documents. What a mount of any process has open stays until nobody uses it and room is needed.
   */
  async remove(manifestDigest: string): Promise<void> {
    const { hex } = parseDigest(manifestDigest);
    const images = await this.#images();
    await this.unpin(manifestDigest);
    await rm(join(this.#directory, 'profiles', hex), { force: true });
    await rm(join(this.#directory, 'images', `${hex}.json`), { force: true });
    const image = images.find((known) => known.hex === hex);
    if (image === undefined) return;
    const others = images.filter((known) => known !== image);
    const needed = new Set(
      others.flatMap(({ layers, index, documents }) => [...layers, index, ...documents]),
    );
    const isMounted = this.#isMounted(image);
    await rm(this.#recordPath(hex), { force: true });
    for (const layer of new Set(image.layers)) {
      if (needed.has(layer) || this.#files.isOpen(layer)) continue;
      await this.#files.evict(layer);
      // Opened meanwhile: its files are in use again.
      if (this.#files.isOpen(layer)) continue;
      await unlink(this.#blobPath(layer)).catch(() => undefined);
    }
    if (isMounted) return;
    for (const blob of new Set([image.index, ...image.documents])) {
      if (!needed.has(blob)) await unlink(this.#blobPath(blob)).catch(() => undefined);
    }
  }

  /** Of another process only its layers tell. */
  #isMounted({ hex, layers }: Recorded): boolean {
    if (this.#mounts.has(hex)) return true;
    return layers.length > 0 && layers.every((layer) => this.#files.isOpen(layer));
  }

  /** `among`: by the hex digits of their manifest digests; all by default. */
  async #images(among?: ReadonlySet<string>): Promise<Recorded[]> {
    const names = await readdir(join(this.#directory, 'inventory')).catch(() => []);
    const all = names
      .map((name) => name.slice(0, -'.json'.length))
      .filter((hex, index) => names[index] === `${hex}.json` && HEX.test(hex))
      .filter((hex) => among?.has(hex) ?? true);
    const images: Recorded[] = [];
    for (let at = 0; at < all.length; at += READ_AT_ONCE) {
      const some = all.slice(at, at + READ_AT_ONCE).map((hex) => this.#read(hex).catch(() => undefined));
      images.push(...(await Promise.all(some)).filter((image) => image !== undefined));
    }
    return images;
  }

  async #read(hex: string): Promise<Recorded | undefined> {
    const path = this.#recordPath(hex);
    const { size, mtimeMs } = await stat(path);
    if (size > MAX_RECORD_BYTES) return undefined;
    const record = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
    const { name, index, layers, documents = [] } = record;
    if (typeof name !== 'string' || !isHex(index) || !areHex(layers) || !areHex(documents)) return undefined;
    return { hex, name, index, layers, documents, lastUse: mtimeMs };
  }

  async #pins(): Promise<Set<string>> {
    return new Set(await readdir(join(this.#directory, 'pins')).catch(() => []));
  }

  #recordPath(hex: string): string {
    return join(this.#directory, 'inventory', `${hex}.json`);
  }

  #blobPath(hex: string): string {
    return join(this.#directory, 'blobs', 'sha256', hex);
  }
}

function isHex(value: unknown): value is string {
  return typeof value === 'string' && HEX.test(value);
}

function areHex(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(isHex);
}

/** `before`: of an earlier mount, which may have had another image index (of fewer layers, or another artifact). */
function recordOf({ name, indexPath, devices, documents = [] }: RemoteImage, before: Recorded | undefined) {
  const index = basename(indexPath);
  const layers = layersOf({ devices });
  // What has a digest of another kind is not kept.
  const blobs = new Set(documents.map((digest) => parseDigest(digest).hex).filter(isHex));
  for (const blob of before === undefined ? [] : [before.index, ...before.documents]) blobs.add(blob);
  blobs.delete(index);
  return { name, index, layers, documents: [...blobs].slice(0, MAX_DOCUMENTS) };
}

/** By what the files of their blocks are named by. */
function layersOf({ devices }: Pick<RemoteImage, 'devices'>): string[] {
  return devices.map(({ digests }) => parseDigest(digests.name).hex);
}

function named({ hex, name }: Recorded): NamedImage {
  return { image: `sha256:${hex}`, name };
}

async function bytesOnDisk(path: string): Promise<number> {
  return ((await stat(path).catch(() => undefined))?.blocks ?? 0) * 512;
}
