/**
 * Which images the cache holds: CACHE/inventory/<hex of the manifest digest>.json, written by every mount, says which
 * layers and which image index belong to an image, and CACHE/pins/<hex> pins it. Other blobs are a few KB.
 */
import { mkdir, readdir, readFile, rename, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { digestOf, parseDigest } from '../oci/digest.js';
import type { RemoteImage } from '../source/remote-image.js';

export interface ImageUsage {
  /** Manifest digest. */
  image: string;
  /** What it was last mounted by. */
  name: string;
  /** Of disk: blocks, block digests and image index; what images share counts for each of them. */
  bytes: number;
  pinned: boolean;
  /** Mounted by this process. */
  inUse: boolean;
  /** When it was last mounted, in milliseconds since 1970. */
  lastUse: number;
}

interface Recorded {
  hex: string;
  name: string;
  index: string;
  layers: string[];
  lastUse: number;
}

/** A record beyond this is not of ours: 4096 layers have 270 KB. */
const MAX_RECORD_BYTES = 1 << 20;
const HEX = /^[0-9a-f]{64}$/;

/** What an inventory needs of the rest of the cache. */
export interface LayerFiles {
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
  async begin({ manifestDigest, name, indexPath, devices }: RemoteImage): Promise<() => void> {
    const { hex } = parseDigest(manifestDigest);
    this.#mounts.set(hex, (this.#mounts.get(hex) ?? 0) + 1);
    const layers = devices.map(({ digests }) => parseDigest(digestOf(digests.encode())).hex);
    const path = this.#recordPath(hex);
    const temporary = `${path}.${process.pid}`;
    try {
      await mkdir(join(this.#directory, 'inventory'), { recursive: true, mode: 0o700 });
      await writeFile(temporary, JSON.stringify({ name, index: basename(indexPath), layers }), {
        mode: 0o600,
      });
      await rename(temporary, path);
    } catch {
      await rm(temporary, { force: true }).catch(() => undefined);
    }
    return () => {
      const left = (this.#mounts.get(hex) ?? 1) - 1;
      if (left > 0) this.#mounts.set(hex, left);
      else this.#mounts.delete(hex);
    };
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
    for (const { hex, name, index, layers, lastUse } of await this.#images()) {
      let bytes = await sizeOf(this.#blobPath(index));
      for (const layer of new Set(layers)) {
        bytes +=
          (await sizeOf(join(this.#directory, 'layers', `${layer}.data`))) +
          (await sizeOf(this.#blobPath(layer)));
      }
      const inUse = this.#mounts.has(hex);
      usages.push({ image: `sha256:${hex}`, name, bytes, pinned: pins.has(hex), inUse, lastUse });
    }
    return usages.sort((a, b) => b.bytes - a.bytes);
  }

  /** The layers of pinned images, by the hex digits of their file names. */
  async pinnedLayers(): Promise<Set<string>> {
    const pins = await this.#pins();
    if (pins.size === 0) return pins;
    const images = await this.#images();
    return new Set(images.filter(({ hex }) => pins.has(hex)).flatMap(({ layers }) => layers));
  }

  /** Images that may go: not pinned, not mounted by this process; the one that was used longest ago first. */
  async evictable(): Promise<string[]> {
    const pins = await this.#pins();
    const images = (await this.#images()).filter(({ hex }) => !pins.has(hex) && !this.#mounts.has(hex));
    return images.sort((a, b) => a.lastUse - b.lastUse).map(({ hex }) => `sha256:${hex}`);
  }

  /**
   * Removes an image, its pin and its startup profile, and what no other image needs: blocks, block digests, image
   * index. What a mount has open stays until nobody uses it and room is needed.
   */
  async remove(manifestDigest: string): Promise<void> {
    const { hex } = parseDigest(manifestDigest);
    const images = await this.#images();
    await this.unpin(manifestDigest);
    await rm(join(this.#directory, 'profiles', hex), { force: true });
    const image = images.find((known) => known.hex === hex);
    if (image === undefined) return;
    const others = images.filter((known) => known !== image);
    const needed = new Set(others.flatMap(({ layers, index }) => [...layers, index]));
    await rm(this.#recordPath(hex), { force: true });
    for (const layer of new Set(image.layers)) {
      if (needed.has(layer) || this.#files.isOpen(layer)) continue;
      await this.#files.evict(layer);
      // Opened meanwhile: its files are in use again.
      if (this.#files.isOpen(layer)) continue;
      await unlink(this.#blobPath(layer)).catch(() => undefined);
    }
    if (!needed.has(image.index) && !this.#mounts.has(hex))
      await unlink(this.#blobPath(image.index)).catch(() => undefined);
  }

  async #images(): Promise<Recorded[]> {
    const names = await readdir(join(this.#directory, 'inventory')).catch(() => []);
    const images: Recorded[] = [];
    for (const name of names) {
      const hex = name.slice(0, -'.json'.length);
      if (name !== `${hex}.json` || !HEX.test(hex)) continue;
      const image = await this.#read(hex).catch(() => undefined);
      if (image !== undefined) images.push(image);
    }
    return images;
  }

  async #read(hex: string): Promise<Recorded | undefined> {
    const path = this.#recordPath(hex);
    const { size, mtimeMs } = await stat(path);
    if (size > MAX_RECORD_BYTES) return undefined;
    const { name, index, layers } = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
    const isHex = (value: unknown): value is string => typeof value === 'string' && HEX.test(value);
    if (typeof name !== 'string' || !isHex(index) || !Array.isArray(layers) || !layers.every(isHex))
      return undefined;
    return { hex, name, index, layers, lastUse: mtimeMs };
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

async function bytesOnDisk(path: string): Promise<number> {
  return ((await stat(path).catch(() => undefined))?.blocks ?? 0) * 512;
}
