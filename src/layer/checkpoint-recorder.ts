/** Collects checkpoints (checkpoints.ts) while a blob is decompressed. */
import { promisify } from 'node:util';
import { deflateRaw } from 'node:zlib';
import type { Checkpoint } from '../native/inflate.js';
import {
  CHECKPOINT_FIELDS,
  CHECKPOINT_KIND,
  CHECKPOINT_SIZE,
  CHECKPOINTS_FIELDS,
  CHECKPOINTS_FORMAT,
  CHECKPOINTS_HEADER_SIZE,
  COMPRESSIONS,
  MAX_CHECKPOINTS,
} from './checkpoints.js';

const deflate = promisify(deflateRaw);

/** Bytes of output between checkpoints: what a read of one block inflates at most, and twice what it does on average. */
const FIRST_SPAN = 1 << 20;

interface Recorded extends Omit<Checkpoint, 'window'> {
  /** Compressed. */
  window: Promise<Uint8Array>;
}

export class CheckpointRecorder {
  #span: number;
  #recorded: Recorded[] = [];
  compression: (typeof COMPRESSIONS)[number] = 'plain';

  constructor(span = FIRST_SPAN) {
    this.#span = span;
  }

  /** Wanted distance of checkpoints. It grows with the output, so that there are never too many. */
  get span(): number {
    return this.#span;
  }

  /** A zstd frame begins: as with a gzip member, it needs no window, so it is worth a checkpoint a little early. */
  addFrame(input: number, out: number): void {
    if (out - (this.#recorded.at(-1)?.out ?? 0) < this.#span / 2) return;
    this.add({ in: input, out, bits: 0, member: true, window: new Uint8Array() });
  }

  add({ window, ...place }: Checkpoint): void {
    const compressed: Promise<Uint8Array> =
      window.length === 0 ? Promise.resolve(window) : deflate(window, { level: 3 });
    // Whoever asks for the document hears of it.
    compressed.catch(() => undefined);
    this.#recorded.push({ ...place, window: compressed });
    if (this.#recorded.length < MAX_CHECKPOINTS) return;
    this.#recorded = this.#recorded.filter((_, index) => index % 2 === 1);
    this.#span *= 2;
  }

  /** The encoded document, of the blob with this digest and these lengths in bytes. */
  async finish(blob: { digest: string; size: number; tarSize: number }): Promise<Uint8Array> {
    const windows = await Promise.all(this.#recorded.map(({ window }) => window));
    const head = Buffer.alloc(CHECKPOINTS_HEADER_SIZE + windows.length * CHECKPOINT_SIZE);
    const at = CHECKPOINTS_FIELDS;
    head.write(CHECKPOINTS_FORMAT.magic, at.magic, 'latin1');
    head.writeUInt32LE(CHECKPOINTS_FORMAT.version, at.version);
    head.writeUInt32LE(windows.length, at.count);
    head.writeBigUInt64LE(BigInt(blob.size), at.blobSize);
    head.writeBigUInt64LE(BigInt(blob.tarSize), at.tarSize);
    head.write(blob.digest.slice('sha256:'.length), at.digest, 'hex');
    head.writeUInt8(COMPRESSIONS.indexOf(this.compression), at.compression);
    for (const [index, { in: input, out, bits, member }] of this.#recorded.entries()) {
      const record = head.subarray(CHECKPOINTS_HEADER_SIZE + index * CHECKPOINT_SIZE);
      record.writeBigUInt64LE(BigInt(input), CHECKPOINT_FIELDS.in);
      record.writeBigUInt64LE(BigInt(out), CHECKPOINT_FIELDS.out);
      record.writeUInt32LE((windows[index] as Uint8Array).length, CHECKPOINT_FIELDS.windowBytes);
      record.writeUInt8(bits, CHECKPOINT_FIELDS.bits);
      record.writeUInt8(member ? CHECKPOINT_KIND.beginning : CHECKPOINT_KIND.window, CHECKPOINT_FIELDS.kind);
    }
    return Buffer.concat([head, ...windows]);
  }
}
