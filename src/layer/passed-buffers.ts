/**
 * Frees the memory of buffers that have passed. V8 sees of a buffer the few bytes that it has on the heap, and lets
 * 64 MiB of them pile up in each thread before it looks at what they hold.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Bytes between two collections, each of which takes about a millisecond. */
const COLLECT_BYTES = 8 << 20;

type Gc = (options: { type: 'minor' }) => void;
let gc: Gc | undefined;

export class PassedBuffers {
  #bytes = 0;

  add(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < COLLECT_BYTES) return;
    this.#bytes = 0;
    gc ??= exposedGc();
    gc?.({ type: 'minor' });
  }
}

function exposedGc(): Gc | undefined {
  setFlagsFromString('--expose-gc');
  return runInNewContext('globalThis.gc') as Gc | undefined;
}
