/**
 * The files of a repository's store that a client may ask for by path (docs/FORMAT.md, "Store"), with an entity tag
 * that is a function of their content.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { LRUCache } from 'lru-cache';
import { isMissing } from './data-directory.js';

/** Of a layer: `.vhd`, `.digests` and whatever other documents it has. */
const LAYER = /^layers\/sha256\/([0-9a-f]{64})\.([a-z][a-z0-9-]{0,31})$/;
const BLOB = /^images\/blobs\/(sha256\/[0-9a-f]{64}|sha512\/[0-9a-f]{128})$/;
const CATALOG = ['orca.json', 'images/oci-layout', 'images/index.json'];

export interface StoreFile {
  file: FileHandle;
  /** Bytes. */
  size: number;
  /** Strong (RFC 9110 §8.8.1), quotes included. */
  etag: string;
  /** It has the same content for ever, so far as it is there. */
  immutable: boolean;
  contentType: string;
}

export function isStorePath(path: string): boolean {
  return CATALOG.includes(path) || BLOB.test(path) || LAYER.test(path);
}

/** Hex digests by the file's identity and version. */
const digests = new LRUCache<string, string>({ max: 20_000 });

/** Opens a file of the store in `directory`; undefined when it is not there, or when no store has such a path. */
export async function openStoreFile(directory: string, path: string): Promise<StoreFile | undefined> {
  if (!isStorePath(path)) return undefined;
  const file = await openRegular(join(directory, path));
  if (file === undefined) return undefined;
  try {
    const { size } = await file.stat();
    const digest = await contentDigest(directory, path, file);
    if (digest !== undefined) {
      const immutable = !CATALOG.includes(path);
      const contentType = path.endsWith('.json') ? 'application/json' : 'application/octet-stream';
      return { file, size, etag: `"${digest}"`, immutable, contentType };
    }
  } catch (error) {
    await file.close();
    throw error;
  }
  await file.close();
  return undefined;
}

async function openRegular(path: string): Promise<FileHandle | undefined> {
  try {
    // O_NONBLOCK: a FIFO, which has no business here, would be waited for.
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    if ((await file.stat()).isFile()) return file;
    await file.close();
    return undefined;
  } catch (error) {
    if (isMissing(error) || (error as NodeJS.ErrnoException).code === 'ELOOP') return undefined;
    throw error;
  }
}

/** Undefined of a layer VHD without block digests: the layer is not complete. */
async function contentDigest(directory: string, path: string, file: FileHandle): Promise<string | undefined> {
  const [, blob] = BLOB.exec(path) ?? [];
  if (blob !== undefined) return blob.replace('/', ':');
  const [, hex, kind] = LAYER.exec(path) ?? [];
  if (kind !== 'vhd') return digestOfFile(file);
  // Layer VHDs are large, and their block digests say what is in them.
  const digestsFile = await openRegular(join(directory, `layers/sha256/${hex}.digests`));
  if (digestsFile === undefined) return undefined;
  try {
    return `vhd-${await digestOfFile(digestsFile)}`;
  } finally {
    await digestsFile.close();
  }
}

async function digestOfFile(file: FileHandle): Promise<string> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await file.stat({ bigint: true });
  // A hard link changes ctime, so the file is read again then; a file that is written anew has another inode.
  const version = `${dev} ${ino} ${size} ${mtimeNs} ${ctimeNs}`;
  const known = digests.get(version);
  if (known !== undefined) return known;
  const hash = createHash('sha256');
  for await (const chunk of file.createReadStream({ autoClose: false, start: 0 })) hash.update(chunk);
  const digest = hash.digest('hex');
  digests.set(version, digest);
  return digest;
}
