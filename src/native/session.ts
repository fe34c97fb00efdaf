/** The checked side of the native Session; its contract stands at the interface in addon.ts. */
import { constants } from 'node:os';
import { ACCESS_KINDS, type Access, type Located, type PathAccess } from './access.js';
import type { FileRead, Session as SessionContract, SessionOptions, SessionStats, Touch } from './addon.js';
import { binding, type NativeSession } from './binding.js';
import { BlockFile } from './block-file.js';
import { checkFunction, checkInteger, checkOptions, checkString, checkText, MAX_INT } from './check.js';

const DEFAULT_THREADS = 2;
const MAX_THREADS = 64;
/**
 * Microseconds: longer than it takes to wake a thread on a processor that sleeps, which is 50 on a virtual one. 30 were
 * measured at 8,000 lookups per second there, 200 at 32,000.
 */
const DEFAULT_POLL = 200;
/** Microseconds; more is a thread that never sleeps. */
export const MAX_POLL = 10_000;

export class Session implements SessionContract {
  readonly #native: NativeSession;
  readonly #ended: Promise<void>;

  constructor(options: SessionOptions) {
    checkOptions(options);
    const { fd, indexPath, blockFiles, onMiss, onLikely, onEnd } = options;
    const { threads = DEFAULT_THREADS, adopt = false, poll = DEFAULT_POLL, splice = true } = options;
    checkInteger(fd, 'fd', 0, MAX_INT);
    checkText(indexPath, 'indexPath');
    checkInteger(threads, 'threads', 1, MAX_THREADS);
    checkInteger(poll, 'poll', 0, MAX_POLL);
    checkFunction(onMiss, 'onMiss');
    checkFunction(onEnd, 'onEnd');
    if (onLikely !== undefined) checkFunction(onLikely, 'onLikely');
    if (!Array.isArray(blockFiles)) throw new TypeError('blockFiles must be an array');
    const files = blockFiles.map((file) => BlockFile.native(file));

    let ended = (): void => {};
    this.#ended = new Promise((resolve) => {
      ended = resolve;
    });
    const miss: SessionOptions['onMiss'] = (device, firstBlock, count, end) => {
      try {
        onMiss(device, firstBlock, count, end);
      } catch (error) {
        // Nobody will fetch them now, and a READ that waits for ever cannot even be killed on some kernels.
        for (let block = firstBlock; block < firstBlock + count; block++)
          files[device]?.fail(block, constants.errno.EIO);
        throw error;
      }
    };
    const finish: SessionOptions['onEnd'] = (reason, message) => {
      ended();
      onEnd(reason, message);
    };
    this.#native = new binding.Session(
      ...([fd, indexPath, files, threads, adopt, poll, splice, miss, finish, onLikely] as const),
    );
  }

  stats(): SessionStats {
    return this.#native.stats();
  }

  touched(): Touch[] {
    return touchesOf(this.#native.touched());
  }

  filesRead(): FileRead[] {
    return touchesOf(this.#native.filesRead()).map(({ block, time }) => ({ nid: block, time }));
  }

  accesses(): Access[] {
    const { numbers, paths } = this.#native.accesses();
    const bytes = Buffer.from(paths.buffer, paths.byteOffset, paths.length);
    let at = 0;
    return Array.from({ length: numbers.length / 5 }, (_, index) => {
      const [kind, length, first, count, time] = numbers.subarray(index * 5, index * 5 + 5);
      const path = bytes.toString('latin1', at, at + length!);
      at += length!;
      return { kind: ACCESS_KINDS[kind!]!, path, first: first!, count: count!, time: time! };
    });
  }

  preload(mountpoint: string, steps: readonly PathAccess[]): void {
    checkText(mountpoint, 'mountpoint');
    this.#native.preload(mountpoint, ...encoded(steps));
  }

  async locate(accesses: readonly PathAccess[]): Promise<Located> {
    const { steps, blocks } = await this.#native.locate(...encoded(accesses));
    return {
      steps: Array.from({ length: steps.length / 2 }, (_, index) => ({
        step: steps[index * 2]!,
        count: steps[index * 2 + 1]!,
      })),
      blocks: Array.from({ length: blocks.length / 4 }, (_, index) => ({
        step: blocks[index * 4]!,
        device: blocks[index * 4 + 1]!,
        first: blocks[index * 4 + 2]!,
        count: blocks[index * 4 + 3]!,
      })),
    };
  }

  stopPreload(): void {
    this.#native.stopPreload();
  }

  close(): Promise<void> {
    this.#native.close();
    return this.#ended;
  }
}

/** As the addon takes them: kind, length of the path, first and count of each; and the paths, one after the other. */
function encoded(steps: readonly PathAccess[]): [numbers: Uint32Array, paths: Uint8Array] {
  const numbers = new Uint32Array(steps.length * 4);
  let at = 0;
  for (const { kind, path, first, count } of steps) {
    checkString(path, 'path');
    checkInteger(first, 'first', 0, 0xffffffff);
    checkInteger(count, 'count', 1, 0xffffffff);
    numbers[at++] = ACCESS_KINDS.indexOf(kind);
    numbers[at++] = path.length;
    numbers[at++] = first;
    numbers[at++] = count;
  }
  return [numbers, Buffer.from(steps.map(({ path }) => path).join(''), 'latin1')];
}

function touchesOf(raw: Uint32Array): Touch[] {
  return Array.from({ length: raw.length / 3 }, (_, index) => ({
    device: raw[index * 3]!,
    block: raw[index * 3 + 1]!,
    time: raw[index * 3 + 2]!,
  }));
}
