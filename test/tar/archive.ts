/** Builds archives for tests, piece by piece. */
import { encodeHeader, encodeNumber, type HeaderFields, sealHeader } from '../../src/tar/header.js';
import { TarParser } from '../../src/tar/parser.js';
import { encodePaxRecord } from '../../src/tar/pax.js';
import { TAR_BLOCK_SIZE, type TarEntry, type TarEvent } from '../../src/tar/tar.js';

type Content = string | Uint8Array;

export function bytesOf(content: Content): Uint8Array {
  return typeof content === 'string' ? Buffer.from(content, 'latin1') : content;
}

export function padded(content: Content): Uint8Array {
  const bytes = bytesOf(content);
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & (TAR_BLOCK_SIZE - 1))]);
}

/** Header and data; the size is that of the data unless given. */
export function member(fields: HeaderFields, content: Content = ''): Uint8Array {
  return Buffer.concat([encodeHeader({ size: bytesOf(content).length, ...fields }), padded(content)]);
}

export function paxRecords(records: Iterable<readonly [string, Content]>): Uint8Array {
  return Buffer.concat([...records].map(([key, value]) => encodePaxRecord(key, value)));
}

/** An extended header that applies to the next member. */
export function pax(records: Iterable<readonly [string, Content]>, type = 'x'): Uint8Array {
  return member({ name: 'PaxHeaders/0', type }, paxRecords(records));
}

/** GNU long name (`L`) or long link (`K`). */
export function long(type: 'L' | 'K', name: string): Uint8Array {
  return member({ name: '././@LongLink', type, isGnu: true }, `${name}\0`);
}

export const END = Buffer.alloc(2 * TAR_BLOCK_SIZE);

export function archive(...members: Uint8Array[]): Buffer {
  return Buffer.concat([...members, END]);
}

/** An old GNU sparse file with as many extension blocks as its pieces need. */
export function gnuSparse(
  name: string,
  realSize: number,
  pieces: readonly (readonly [number, Content])[],
): Uint8Array {
  const data = Buffer.concat(pieces.map(([, content]) => bytesOf(content)));
  const header = encodeHeader({ name, type: 'S', isGnu: true, size: data.length });
  const pairs = pieces.map(([offset, content]) => {
    const pair = new Uint8Array(24);
    encodeNumber(pair.subarray(0, 12), offset);
    encodeNumber(pair.subarray(12), bytesOf(content).length);
    return pair;
  });
  const blocks = [header];
  header.set(Buffer.concat(pairs.slice(0, 4)), 386);
  encodeNumber(header.subarray(483, 495), realSize);
  for (let at = 4; at < pairs.length; at += 21) {
    const extension = new Uint8Array(TAR_BLOCK_SIZE);
    extension.set(Buffer.concat(pairs.slice(at, at + 21)));
    extension[504] = at + 21 < pairs.length ? 1 : 0;
    blocks.push(extension);
  }
  if (blocks.length > 1) header[482] = 1;
  sealHeader(header);
  return Buffer.concat([...blocks, padded(data)]);
}

export interface ParsedEntry extends TarEntry {
  /** The file as its reader sees it. */
  content: string;
}

export interface ParsedArchive {
  entries: ParsedEntry[];
  warnings: string[];
}

/** Parses `bytes` cut into chunks of `chunkSize`; content beyond `contentLimit` is left out. */
export function parse(
  bytes: Uint8Array,
  chunkSize = bytes.length,
  contentLimit = Number.MAX_SAFE_INTEGER,
): ParsedArchive {
  const parser = new TarParser();
  const parsed: ParsedArchive = { entries: [], warnings: [] };
  let content = Buffer.alloc(0);
  function add(event: TarEvent): void {
    if (event.kind === 'entry') content = Buffer.alloc(Math.min(event.entry.size, contentLimit));
    if (event.kind === 'entry') parsed.entries.push({ ...event.entry, content: '' });
    if (event.kind === 'data' && event.offset + event.bytes.length <= content.length) {
      content.set(event.bytes, event.offset);
    }
    if (event.kind === 'end') (parsed.entries.at(-1) as ParsedEntry).content = content.toString('latin1');
    if (event.kind === 'warning') parsed.warnings.push(event.message);
  }
  for (let at = 0; at < bytes.length; at += chunkSize) {
    // A copy, so that a view kept too long shows.
    const chunk = new Uint8Array(bytes.subarray(at, at + chunkSize));
    for (const event of parser.push(chunk)) add(event);
    chunk.fill(0xee);
  }
  for (const event of parser.finish()) add(event);
  return parsed;
}
