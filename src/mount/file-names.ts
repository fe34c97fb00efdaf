/**
 * What the files of an image index are called, for people to read: paths by nid. The event loop is given back every few
 * milliseconds, since it answers the misses of all mounts. Whatever is too large for that stays without a name.
 */
import { open } from 'node:fs/promises';
import { ErofsImage } from '../erofs/reader.js';
import { fileReader } from '../vhd/vhd.js';

export interface NamedFile {
  /** Absolute within the image; what is not UTF-8, or would change how text is shown, is replaced by U+FFFD. */
  path: string;
  /** Bytes. */
  size: number;
}

/** 30 MB of memory; the largest images in common use have fewer files. */
const MOST_NAMES = 200_000;
/** Bytes: some 100,000 names. A larger directory is not looked into, since that would take the event loop too long. */
const LARGEST_DIRECTORY = 2 << 20;
/** Bytes: deeper paths do not exist, as far as the kernel is concerned. */
const LONGEST_PATH = 4096;
const SLICE_MS = 4;

/** Throws ErofsError for an image that is no image; damage further down ends the walk. */
export async function readFileNames(indexPath: string): Promise<ReadonlyMap<number, NamedFile>> {
  const handle = await open(indexPath, 'r');
  try {
    const { size } = await handle.stat();
    return await walk(ErofsImage.open(fileReader(handle.fd), size));
  } finally {
    await handle.close();
  }
}

async function walk(image: ErofsImage): Promise<Map<number, NamedFile>> {
  const files = new Map<number, NamedFile>();
  const seen = new Set<number>([image.rootNid]);
  const pending = [{ nid: image.rootNid, path: '' }];
  let sliceEnd = performance.now() + SLICE_MS;
  let left = MOST_NAMES;
  for (const { nid, path } of pending) {
    for (const entry of entriesOf(image, nid)) {
      if (left-- === 0) return files;
      if (performance.now() > sliceEnd) {
        await new Promise((resolve) => setImmediate(resolve));
        sliceEnd = performance.now() + SLICE_MS;
      }
      const inode = attempt(() => image.inode(entry.nid));
      const full = `${path}/${readable(entry.name)}`;
      if (inode === undefined || seen.has(entry.nid) || full.length > LONGEST_PATH) continue;
      seen.add(entry.nid);
      if (inode.kind === 'file') files.set(entry.nid, { path: full, size: inode.size });
      else if (inode.kind === 'directory') pending.push({ nid: entry.nid, path: full });
    }
  }
  return files;
}

function entriesOf(image: ErofsImage, nid: number): ReturnType<ErofsImage['entries']> {
  const entries = attempt(() => (image.inode(nid).size > LARGEST_DIRECTORY ? [] : image.entries(nid)));
  return entries ?? [];
}

/** Damage of one inode is no reason not to name the others. */
function attempt<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}

/** Control characters, and those that turn the direction of text (Unicode UAX #9), could show another name. */
function readable(name: string): string {
  const text = Buffer.from(name, 'latin1').toString('utf8');
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '\ufffd');
}
