/** The checked side of the native BlockFile; its contract stands at the interface in addon.ts. */
import type { BlockFile as BlockFileContract, BlockFileOptions, PutResult } from './addon.js';
import { binding, type NativeBlockFile } from './binding.js';
import { checkBytes, checkFunction, checkInteger, checkOptions, checkText, MAX_INT } from './check.js';

const MAX_BLOCK_SIZE = 16 << 20;
/** The bitmap of a file of this many blocks takes 64 MiB. */
const MAX_BLOCKS = 2 ** 28;
const DIGEST_SIZE = 32;

export class BlockFile implements BlockFileContract {
  readonly blocks: number;
  readonly suspect: boolean;
  readonly #native: NativeBlockFile;
  readonly #size: number;
  readonly #blockSize: number;
  #closing: Promise<void> | undefined;

  constructor(options: BlockFileOptions) {
    checkOptions(options);
    const { dataPath, mapPath, size, blockSize, onTouch = () => undefined } = options;
    checkFunction(onTouch, 'onTouch');
    checkText(dataPath, 'dataPath');
    checkText(mapPath, 'mapPath');
    checkInteger(blockSize, 'blockSize', 4096, MAX_BLOCK_SIZE);
    if ((blockSize & (blockSize - 1)) !== 0)
      throw new RangeError(`blockSize must be a power of two, not ${blockSize}`);
    checkInteger(size, 'size', 1, Math.min(MAX_BLOCKS * blockSize, Number.MAX_SAFE_INTEGER));
    this.#native = new binding.BlockFile(dataPath, mapPath, size, blockSize, onTouch);
    this.#size = size;
    this.#blockSize = blockSize;
    this.blocks = this.#native.blocks;
    this.suspect = this.#native.suspect;
  }

  /** The native object of an open block file, for the Session that reads it. */
  static native(file: unknown): NativeBlockFile {
    if (!(typeof file === 'object' && file !== null && #native in file))
      throw new TypeError('not a BlockFile');
    return file.#open();
  }

  has(block: number): boolean {
    return this.#at(block).has(block);
  }

  wasPresent(block: number): boolean {
    return this.#at(block).wasPresent(block);
  }

  trust(block: number): void {
    this.#at(block).trust(block);
  }

  count(): number {
    return this.#open().count();
  }

  bytesOnDisk(): number {
    return this.#open().bytesOnDisk();
  }

  async read(block: number): Promise<Uint8Array> {
    return this.#at(block).read(block);
  }

  async put(block: number, bytes: Uint8Array): Promise<void> {
    const native = this.#at(block);
    const given = checkBytes(bytes, 'bytes');
    const length = Math.min(this.#blockSize, this.#size - block * this.#blockSize);
    if (given !== length) throw new RangeError(`block ${block} has ${length} bytes, not ${given}`);
    await native.put(block, bytes);
  }

  async putRun(firstBlock: number, bytes: Uint8Array, digests: Uint8Array): Promise<PutResult> {
    const native = this.#at(firstBlock);
    const given = checkBytes(bytes, 'bytes');
    const count = Math.ceil(given / this.#blockSize);
    const end = Math.min((firstBlock + count) * this.#blockSize, this.#size);
    if (count < 1 || firstBlock + count > this.blocks || end - firstBlock * this.#blockSize !== given)
      throw new RangeError(`${given} bytes are not whole blocks from block ${firstBlock}`);
    checkBytes(digests, 'digests', count * DIGEST_SIZE);
    return native.putRun(firstBlock, bytes, digests);
  }

  watch(block: number): void {
    this.#at(block).watch(block);
  }

  awaited(block: number): boolean {
    return this.#at(block).awaited(block);
  }

  fail(block: number, errno: number): void {
    checkInteger(errno, 'errno', 1, 4095);
    this.#at(block).fail(block, errno);
  }

  evict(firstBlock: number, count: number): void {
    const native = this.#open();
    checkInteger(firstBlock, 'firstBlock', 0, this.blocks);
    checkInteger(count, 'count', 0, this.blocks - firstBlock);
    native.evict(firstBlock, count);
  }

  async close(): Promise<void> {
    this.#closing ??= this.#native.close();
    await this.#closing;
  }

  #open(): NativeBlockFile {
    if (this.#closing !== undefined) throw new Error('the block file is closed');
    return this.#native;
  }

  #at(block: number): NativeBlockFile {
    const native = this.#open();
    checkInteger(block, 'block', 0, Math.min(this.blocks - 1, MAX_INT));
    return native;
  }
}
