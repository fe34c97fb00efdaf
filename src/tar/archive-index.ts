/**
 * Where the members of an archive on disk lie, for reading them in any order: `docker save` and OCI archives.
 */
import { fstatSync, read } from 'node:fs';
import { posix } from 'node:path';
import { promisify } from 'node:util';
import type { ByteString } from '../erofs/tree.js';
import { TarParser } from './parser.js';
import { quoteName, type TarEntry, TarError } from './tar.js';

export interface ArchiveMember {
  /** Of the data in the archive, in bytes. */
  offset: number;
  size: number;
}

/** Members of an image archive: a few per layer, and images have at most some hundred layers. */
const MAX_MEMBERS = 100_000;

/** Links that one name may lead over. */
const MAX_LINK_HOPS = 8;

const READ_SIZE = 64 << 10;

const readFile = promisify(read);

/**
 * Reads the headers of the tar that the descriptor has open, at positions of its own, and seeks over the data.
 *
 * Names are without leading `./` or `/`. The last entry of a name counts; a hard or symbolic link to another
 * member (old versions of `docker save` write them for layers that repeat) stands for that member's data; links
 * that lead nowhere and members that are no files are left out. Throws TarError, or the error of the read.
 */
export async function indexArchive(fd: number): Promise<Map<ByteString, ArchiveMember>> {
  const fileSize = fstatSync(fd).size;
  const parser = new TarParser();
  const entries = new Map<ByteString, TarEntry>();
  const buffer = new Uint8Array(READ_SIZE);
  for (let position = 0; position < fileSize; ) {
    const { bytesRead } = await readFile(fd, buffer, 0, READ_SIZE, position);
    if (bytesRead === 0) break;
    const chunk = buffer.subarray(0, bytesRead);
    if (position === 0) refuseCompressed(chunk);
    for (const event of parser.push(chunk)) {
      if (event.kind !== 'entry') continue;
      parser.skipData();
      addEntry(entries, event.entry);
    }
    position += bytesRead;
    const skip = Math.min(parser.discardable, fileSize - position);
    parser.discarded(skip);
    position += skip;
  }
  for (const _warning of parser.finish()) {
    // Only the end mark can be missing here, and an image archive is checked by its digests.
  }
  return resolveMembers(entries);
}

function refuseCompressed(start: Uint8Array): void {
  if ((start[0] === 0x1f && start[1] === 0x8b) || (start[0] === 0x28 && start[1] === 0xb5)) {
    throw new TarError('UNSUPPORTED', 'the archive is compressed; decompress it first (gunzip, unzstd)');
  }
}

function addEntry(entries: Map<ByteString, TarEntry>, entry: TarEntry): void {
  if (entry.segments !== undefined) {
    throw new TarError('UNSUPPORTED', `tar: ${quoteName(entry.name)} is stored as a sparse file`);
  }
  const name = cleanName(entry.name);
  entries.delete(name);
  entries.set(name, entry);
  if (entries.size > MAX_MEMBERS) {
    throw new TarError('TOO_LARGE', `tar: an image archive of more than ${MAX_MEMBERS} members`);
  }
}

function cleanName(name: ByteString): ByteString {
  return posix.normalize(`/${name}`).slice(1);
}

function resolveMembers(entries: ReadonlyMap<ByteString, TarEntry>): Map<ByteString, ArchiveMember> {
  const members = new Map<ByteString, ArchiveMember>();
  for (const name of entries.keys()) {
    const file = resolveLinks(entries, name);
    if (file !== undefined) members.set(name, { offset: file.dataOffset, size: file.size });
  }
  return members;
}

function resolveLinks(entries: ReadonlyMap<ByteString, TarEntry>, name: ByteString): TarEntry | undefined {
  for (let hop = 0, at = name; hop <= MAX_LINK_HOPS; hop++) {
    const entry = entries.get(at);
    if (entry?.type === 'file') return entry;
    if (entry?.type === 'hardlink') at = cleanName(entry.linkname);
    else if (entry?.type === 'symlink') at = cleanName(posix.join(posix.dirname(at), entry.linkname));
    else return undefined;
  }
  return undefined;
}
