/** An image of three layers of 1 GiB each, half of which compresses: folders 1, 2 and 3 with 16 files each. */
import { spawn } from 'node:child_process';
import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir, readFile, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { encodeHeader } from '../src/tar/header.js';
import { type PackedLayer, writeLayout } from '../test/system/layout-writer.js';
import { builtOnce } from '../test/system/test-cache.js';

const FILES = 16;
const FILE_SIZE = 64 << 20;
const PIECE = 1 << 20;
const TYPE = 'application/vnd.oci.image.layer.v1.tar';
const COMPRESSORS = { gzip: ['gzip', '-1', '-n'], zstd: ['zstd', '-q', '-1', '-c'] } as const;

export const largeTag = 'large';
export const largeFolders = ['1', '2', '3'];

/** The OCI layout directory. */
export async function largeImage(): Promise<string> {
  const key = createHash('sha256').update(await readFile(import.meta.filename));
  return builtOnce(`large-${key.digest('hex').slice(0, 16)}`, async (made) => {
    const blobs = join(made, 'blobs', 'sha256');
    await mkdir(blobs, { recursive: true });
    const layers = await Promise.all(
      (['gzip', 'zstd', 'gzip'] as const).map((kind, index) => layer(blobs, largeFolders[index]!, kind)),
    );
    await writeLayout(made, largeTag, {}, layers);
  });
}

async function layer(blobs: string, folder: string, kind: keyof typeof COMPRESSORS): Promise<PackedLayer> {
  const path = join(blobs, `new-${folder}`);
  const [program, ...args] = COMPRESSORS[kind];
  const compressor = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const [tarHash, blobHash] = [createHash('sha256'), createHash('sha256')];
  const file = createWriteStream(path);
  compressor.stdout.on('data', (chunk: Buffer) => blobHash.update(chunk));
  compressor.stdout.pipe(file);
  for (const bytes of tarOf(folder)) {
    tarHash.update(bytes);
    if (!compressor.stdin.write(bytes)) await once(compressor.stdin, 'drain');
  }
  compressor.stdin.end();
  await finished(file);
  const hex = blobHash.digest('hex');
  const { size } = await stat(path);
  await rename(path, join(blobs, hex));
  const diffID = `sha256:${tarHash.digest('hex')}`;
  return { mediaType: `${TYPE}+${kind}`, digest: `sha256:${hex}`, size, diffID, createdBy: folder };
}

function* tarOf(folder: string): Generator<Buffer, void, void> {
  const random = createCipheriv('aes-128-ctr', Buffer.alloc(16, Number(folder)), Buffer.alloc(16));
  for (let file = 0; file < FILES; file++) {
    yield Buffer.from(encodeHeader({ name: `${folder}/${file}`, size: FILE_SIZE }));
    for (let at = 0; at < FILE_SIZE; at += PIECE) {
      const bytes = random.update(Buffer.alloc(PIECE));
      for (let i = 0; i < PIECE; i += 8192) bytes.fill(`line ${file} ${at + i}\n`, i, i + 4096);
      yield bytes;
    }
  }
  yield Buffer.alloc(1024);
}
