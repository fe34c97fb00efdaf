/**
 * The table of contents of an eStargz blob, which is a gzip tar whose data begin with gzip members of their own: where
 * it lies, and what it says (containerd/stargz-snapshotter, docs/estargz.md, "TOC, TOCEntries and Footer").
 *
 * It comes from a registry, and so do its digests: nothing in it is taken for granted but that it has the digest which
 * the image manifest names.
 */
import { Readable } from 'node:stream';
import type { ByteString } from '../erofs/tree.js';
import { digestOf } from '../oci/digest.js';
import { TarParser } from '../tar/parser.js';
import { quoteName, type TarEntry, type TarEntryType } from '../tar/tar.js';
import { gunzip } from './gunzip.js';
import { LayerError } from './layer-error.js';

/** On a layer of an image manifest: digest of the JSON. */
export const TOC_ANNOTATION = 'containerd.io/snapshot/stargz/toc.digest';
export const FOOTER_SIZE = 51;
/** A gzip member without content: its extra field is the subfield SG, 16 hex digits and STARGZ. */
const FOOTER = /^\x1f\x8b\x08\x04\0{4}[\s\S]{2}\x1a\0SG\x16\0([0-9a-f]{16})STARGZ\x01\0\0\xff\xff\0{8}$/;
const TOC_NAME = 'stargz.index.json';

/** The table of some 200,000 files; it is in memory as a whole. */
export const MAX_TOC_BYTES = 64 << 20;
/** What tables of that length are compressed to at most. */
export const MAX_COMPRESSED_TOC_BYTES = 32 << 20;
/** What JSON takes when it is parsed depends on how many values it has: per file two objects and ten others. */
const MAX_BRACKETS = 1 << 19;
const MAX_COMMAS = 4 << 20;
/** As Linux has them. */
const MAX_ID = 2 ** 32 - 1;
const RFC3339 = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/;
const SHA256 = /^sha256:[0-9a-f]{64}$/;
/** ASCII, in which a text is its bytes. */
const PLAIN = /^[\x01-\x7f]*$/;
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

const NO_XATTRS: ReadonlyMap<ByteString, Uint8Array> = new Map();

const TYPES = new Map<unknown, TarEntryType>([
  ['dir', 'directory'],
  ['reg', 'file'],
  ['symlink', 'symlink'],
  ['hardlink', 'hardlink'],
  ['char', 'chardev'],
  ['block', 'blockdev'],
  ['fifo', 'fifo'],
]);

/** Bytes. */
export interface TocChunk {
  /** In the blob, where a gzip member begins. */
  offset: number;
  /** Of that member's data, before the chunk. */
  skip: number;
  length: number;
  /** sha256, in hex. */
  digest: string;
}

export interface TocEntry {
  entry: TarEntry;
  /** All data of a file, in order; empty of everything else. */
  chunks: TocChunk[];
}

/** Where the table of contents begins in a blob of `blobSize` bytes that ends with `footer`; undefined of no eStargz. */
export function tocOffset(footer: Uint8Array, blobSize: number): number | undefined {
  const digits = FOOTER.exec(Buffer.from(footer).toString('latin1'))?.[1];
  if (digits === undefined) return undefined;
  const offset = Number.parseInt(digits, 16);
  return offset < blobSize - FOOTER_SIZE ? offset : undefined;
}

/**
 * The entries of a compressed table of contents whose JSON must have the digest. Throws LayerError DIGEST_MISMATCH,
 * CORRUPT, TOO_LARGE, or INCOMPLETE of one that lacks what it takes to verify a file; TarError.
 */
export async function readToc(compressed: Uint8Array, digest: string): Promise<TocEntry[]> {
  const json = await extract(compressed);
  const found = digestOf(json);
  if (found !== digest) {
    throw new LayerError('DIGEST_MISMATCH', `the table of contents has the digest ${found}, not ${digest}`);
  }
  return parseToc(json);
}

/** The one file of the tar. */
async function extract(compressed: Uint8Array): Promise<Buffer> {
  const parser = new TarParser();
  const pieces: Buffer[] = [];
  let isToc = false;
  let length = 0;
  for await (const bytes of gunzip(Readable.from([compressed]))) {
    length += bytes.length;
    if (length > MAX_TOC_BYTES)
      throw new LayerError('TOO_LARGE', `a table of more than ${MAX_TOC_BYTES} bytes`);
    for (const event of parser.push(bytes)) {
      if (event.kind === 'entry') isToc = event.entry.name === TOC_NAME && event.entry.type === 'file';
      if (event.kind === 'data' && isToc) pieces.push(Buffer.from(event.bytes));
    }
  }
  for (const _ of parser.finish());
  return Buffer.concat(pieces);
}

/** Entries of the JSON. Throws LayerError CORRUPT, TOO_LARGE or INCOMPLETE. */
export function parseToc(json: Uint8Array): TocEntry[] {
  checkSize(json);
  let toc: unknown;
  try {
    toc = JSON.parse(Buffer.from(json).toString());
  } catch (cause) {
    throw new LayerError('CORRUPT', 'the table of contents is no JSON', { cause });
  }
  const { version, entries } = (toc ?? {}) as { version?: unknown; entries?: unknown };
  if (version !== 1 || !Array.isArray(entries)) throw corrupt('its version is not 1, or it has no entries');
  const parser = new EntryParser();
  for (const entry of entries) parser.add(new Fields(entry));
  return parser.finish();
}

/** Before it is parsed. Those within names count as well. */
function checkSize(json: Uint8Array): void {
  let brackets = 0;
  let commas = 0;
  for (let at = 0; at < json.length; at++) {
    const byte = json[at];
    if (byte === 0x7b || byte === 0x5b) brackets++;
    else if (byte === 0x2c) commas++;
  }
  if (brackets > MAX_BRACKETS || commas > MAX_COMMAS) {
    throw new LayerError('TOO_LARGE', 'its table of contents has too many entries');
  }
}

class EntryParser {
  readonly #entries: TocEntry[] = [];
  /** The last one, while its chunks follow, and how many of its bytes they have so far. */
  #file: TocEntry | undefined;
  #covered = 0;

  add(fields: Fields): void {
    if (fields.value('type') === 'chunk') {
      const { name } = this.#file?.entry ?? {};
      if (name === undefined || ![name, ''].includes(fields.bytes('name'))) throw fields.error('type');
      this.#addChunk(fields);
      return;
    }
    this.#endFile();
    const entry = tarEntry(fields);
    const found: TocEntry = { entry, chunks: [] };
    this.#entries.push(found);
    if (entry.type !== 'file') return;
    this.#file = found;
    this.#covered = 0;
    if (entry.size > 0) this.#addChunk(fields);
  }

  finish(): TocEntry[] {
    this.#endFile();
    return this.#entries;
  }

  #addChunk(fields: Fields): void {
    const { entry, chunks } = this.#file as TocEntry;
    if (fields.size('chunkOffset') !== this.#covered) throw fields.error('chunkOffset');
    const rest = entry.size - this.#covered;
    const length = fields.size('chunkSize') || rest;
    if (length === 0 || length > rest) throw fields.error('chunkSize');
    // A file of one chunk has that chunk's digest.
    const digest =
      fields.value('chunkDigest') ?? (length === entry.size ? fields.value('digest') : undefined);
    if (digest === undefined || digest === '') {
      throw new LayerError('INCOMPLETE', `its table of contents has no digest for ${quoteName(entry.name)}`);
    }
    if (typeof digest !== 'string' || !SHA256.test(digest)) throw fields.error('chunkDigest');
    chunks.push({
      offset: fields.size('offset'),
      skip: fields.size('innerOffset'),
      length,
      digest: digest.slice('sha256:'.length),
    });
    this.#covered += length;
  }

  #endFile(): void {
    const { entry } = this.#file ?? {};
    if (entry !== undefined && this.#covered !== entry.size) {
      throw corrupt(`the chunks of ${quoteName(entry.name)} have ${this.#covered} of ${entry.size} bytes`);
    }
    this.#file = undefined;
  }
}

function tarEntry(fields: Fields): TarEntry {
  const type = TYPES.get(fields.value('type'));
  if (type === undefined) throw fields.error('type');
  const name = fields.bytes('name');
  if (name === '') throw fields.error('name');
  const isLink = type === 'hardlink' || type === 'symlink';
  const isDevice = type === 'chardev' || type === 'blockdev';
  return {
    type,
    name,
    linkname: isLink ? fields.bytes('linkName') : '',
    mode: fields.size('mode') & 0o7777,
    uid: fields.id('uid'),
    gid: fields.id('gid'),
    size: type === 'file' ? fields.size('size') : 0,
    mtime: fields.time('modtime'),
    major: isDevice ? fields.size('devMajor') : 0,
    minor: isDevice ? fields.size('devMinor') : 0,
    xattrs: fields.xattrs('xattrs'),
    dataOffset: 0,
    storedSize: 0,
  };
}

/** One element of `entries`; what is missing is what Go's encoder leaves out: zero, or empty. */
class Fields {
  readonly #record: Readonly<Record<string, unknown>>;

  constructor(entry: unknown) {
    if (typeof entry !== 'object' || entry === null) throw corrupt('an entry is no object');
    this.#record = entry as Record<string, unknown>;
  }

  value(key: string): unknown {
    return Object.hasOwn(this.#record, key) ? this.#record[key] : undefined;
  }

  size(key: string): number {
    const value = this.value(key) ?? 0;
    if (!Number.isSafeInteger(value) || (value as number) < 0) throw this.error(key);
    return value as number;
  }

  id(key: string): number {
    const value = this.size(key);
    if (value > MAX_ID) throw this.error(key);
    return value;
  }

  /** What Go cannot say in JSON it replaces, and then nobody knows what it was. */
  bytes(key: string): ByteString {
    const value = this.value(key) ?? '';
    if (typeof value !== 'string') throw this.error(key);
    if (PLAIN.test(value)) return value;
    if (value.includes('\0')) throw this.error(key);
    const bytes = Buffer.from(value);
    if (bytes.includes('\ufffd')) {
      throw new LayerError(
        'INCOMPLETE',
        `its table of contents has a name that is not UTF-8: ${this.#shown}`,
      );
    }
    return bytes.toString('latin1');
  }

  /** Nanoseconds since 1970. */
  time(key: string): bigint {
    const value = this.value(key) ?? '';
    if (value === '') return 0n;
    const [, time, fraction = '', zone] = (typeof value === 'string' && RFC3339.exec(value)) || [];
    const milliseconds = Date.parse(`${time}${zone}`);
    if (Number.isNaN(milliseconds)) throw this.error(key);
    return BigInt(milliseconds) * 1_000_000n + BigInt(fraction.padEnd(9, '0'));
  }

  xattrs(key: string): ReadonlyMap<ByteString, Uint8Array> {
    const value = this.value(key);
    if (value === undefined || value === null) return NO_XATTRS;
    if (typeof value !== 'object' || Array.isArray(value)) throw this.error(key);
    const xattrs = new Map<ByteString, Uint8Array>();
    for (const [name, encoded] of Object.entries(value as Record<string, unknown>)) {
      const text = encoded ?? '';
      if (typeof text !== 'string' || !BASE64.test(text) || name.includes('\0')) throw this.error(key);
      xattrs.set(Buffer.from(name).toString('latin1'), Buffer.from(text, 'base64'));
    }
    return xattrs;
  }

  get #shown(): string {
    return quoteName(Buffer.from(String(this.value('name'))).toString('latin1'));
  }

  error(key: string): LayerError {
    return corrupt(`${key} of ${this.#shown}`);
  }
}

function corrupt(what: string): LayerError {
  return new LayerError('CORRUPT', `damaged table of contents: ${what}`);
}
