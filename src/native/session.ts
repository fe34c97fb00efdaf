/** The checked side of the native Session; its contract stands at the interface in addon.ts. */
import { constants } from 'node:os';
import { ACCESS_KINDS, type Access, type PathAccess } from './access.js';
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
    const { fd, indexPath, blockFiles, onMiss, onEnd } = options;
    const { threads = DEFAULT_THREADS, adopt = false, poll = DEFAULT_POLL, splice = true } = options;
    checkInteger(fd, 'fd', 0, MAX_INT);
    checkText(indexPath, 'indexPath');
    checkInteger(threads, 'threads', 1, MAX_THREADS);
    checkInteger(poll, 'poll', 0, MAX_POLL);
    checkFunction(onMiss, 'onMiss');
    checkFunction(onEnd, 'onEnd');
    if (!Array.isArray(blockFiles)) throw new TypeError('blockFiles must be an array');
    const files = blockFiles.map((file) => BlockFile.native(file));

    let ended = (): void => {};
    this.#ended = new Promise((resolve) => {
      ended = resolve;
    });
    const miss: SessionOptions['onMiss'] = (device, firstBlock, count) => {
      try {
        onMiss(device, firstBlock, count);
      } catch (error) {
        // Nobody will fetch them now, and a READ that waits for ever cannot even be killed on some kernels.
        for (let block = firstBlock; block < firstBlock + count; block++)
          files[device]?.fail(block, constants.errno.EIO);
        throw error;
      }
    };
    const end: SessionOptions['onEnd'] = (reason, message) => {
      ended();
      onEnd(reason, message);
    };
    this.#native = new binding.Session(fd, indexPath, files, threads, adopt, poll, splice, miss, end);
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
    const numbers = new Uint32Array(steps.length * 4);
    for (const [index, { kind, path, first, count }] of steps.entries()) {
      checkString(path, 'path');
      checkInteger(first, 'first', 0, 0xffffffff);
      checkInteger(count, 'count', 1, 0xffffffff);
      numbers.set([ACCESS_KINDS.indexOf(kind), path.length, first, count], index * 4);
    }
    this.#native.preload(mountpoint, numbers, Buffer.from(steps.map(({ path }) => path).join(''), 'latin1'));
  }

  stopPreload(): void {
    this.#native.stopPreload();
  }

  close(): Promise<void> {
    this.#native.close();
    return this.#ended;
  }
}

function touchesOf(raw: Uint32Array): Touch[] {
  return Array.from({ length: raw.length / 3 }, (_, index) => ({
    device: raw[index * 3]!,
    block: raw[index * 3 + 1]!,
    time: raw[index * 3 + 2]!,
  }));
}
