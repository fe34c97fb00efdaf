/**
 * A process that expands a generated tar of FILES files of SIZE bytes each to OUTPUT, and prints the most memory that
 * it had, in bytes: `node expand-generated.js FILES SIZE OUTPUT`.
 */
import { randomFillSync } from 'node:crypto';
import { expandLayer } from '../../src/layer/expand.js';
import { encodeHeader } from '../../src/tar/header.js';
import { TAR_BLOCK_SIZE } from '../../src/tar/tar.js';

const PIECE_SIZE = 256 << 10;

function* tar(files: number, size: number): Generator<Uint8Array> {
  const piece = randomFillSync(new Uint8Array(PIECE_SIZE));
  for (let file = 0; file < files; file++) {
    yield encodeHeader({ name: `directory-${file % 100}/file-${file}`, size });
    for (let left = size; left > 0; left -= PIECE_SIZE) {
      // No two files have the same content, or they would share it.
      new DataView(piece.buffer).setFloat64(0, file);
      yield piece.slice(0, Math.min(left, PIECE_SIZE));
    }
    yield new Uint8Array(-size & (TAR_BLOCK_SIZE - 1));
  }
  yield new Uint8Array(2 * TAR_BLOCK_SIZE);
}

async function* blob(files: number, size: number): AsyncGenerator<Uint8Array> {
  yield* tar(files, size);
}

const [, , files, size, output = ''] = process.argv;
await expandLayer(blob(Number(files), Number(size)), { output });
console.log(process.resourceUsage().maxRSS * 1024);
