/** What takes a host's processor for long, done by threads: its event loop answers the misses of all mounts. */
import { availableParallelism } from 'node:os';
import { MessageChannel } from 'node:worker_threads';
import { readBlob } from './blob-port.js';
import { BlockDigests } from './block-digests.js';
import { decompress, hasNativeZstd } from './decompress.js';
import { LayerError } from './layer-error.js';
import type { LayerTasks } from './layer-worker.js';
import { ExpansionError } from './worker-messages.js';
import { WorkerPool } from './worker-pool.js';

/** MiB of script heap: the metadata of a layer of some million files. */
const MEMORY = 2048;
/** More than streams go on at once. */
const MAX_DECOMPRESSORS = 16;

/** Layers of an image are downloaded at once, also where the processors are few. */
const expanders = new WorkerPool<LayerTasks>({
  entry: 'layer-worker',
  workers: Math.max(4, availableParallelism()),
  memory: MEMORY,
});
const decompressors = new WorkerPool<LayerTasks>({
  entry: 'layer-worker',
  workers: MAX_DECOMPRESSORS,
  memory: MEMORY,
});
const NEVER = new AbortController().signal;

export interface ThreadExpansion {
  /** Path of the layer VHD, which need not survive a crash of the machine. */
  output: string;
  diffID: string;
  blobDigest: string | undefined;
  /** The bytes of the blob. */
  open(signal: AbortSignal): AsyncIterable<Uint8Array>;
  signal?: AbortSignal | undefined;
  onProgress?(bytesIn: number): void;
}

/** expandLayer in a thread. Throws what `open` throws, and what expandLayer throws as an error with the same code. */
export async function expandInThread({ open, signal = NEVER, onProgress, ...task }: ThreadExpansion) {
  const failure = new BlobFailure();
  try {
    const { digests, ...documents } = await expanders.run<'expand'>(
      { kind: 'expand', ...task },
      {
        signal,
        blob: { open: (either) => failure.watch(open(either)) },
        ...(onProgress === undefined ? {} : { onProgress }),
      },
    );
    return { digests: BlockDigests.decode(digests), ...documents };
  } catch (error) {
    throw failure.or(error);
  }
}

/** `decompress`, which does zstd in script on older versions of Node, and then in a thread. Throws as it does. */
export function decompressAside(blob: AsyncIterable<Uint8Array>, isZstd: boolean): AsyncIterable<Uint8Array> {
  return isZstd && !hasNativeZstd ? decompressInThread(blob) : decompress(blob);
}

async function* decompressInThread(blob: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
  const { port1, port2 } = new MessageChannel();
  const stop = new AbortController();
  const failure = new BlobFailure();
  const task = decompressors.run<'decompress'>(
    { kind: 'decompress', output: port2 },
    { signal: stop.signal, blob: { open: () => failure.watch(blob) }, transfer: [port2] },
  );
  // Whoever reads hears of a thread that has died by its end of the port.
  task.catch(() => port1.close());
  try {
    yield* readBlob(port1);
  } catch (error) {
    throw failure.or(error);
  } finally {
    stop.abort();
    await task.catch(() => undefined);
  }
}

/** What a blob has thrown, which comes back from the thread as another error. */
class BlobFailure {
  #thrown: { error: unknown } | undefined;

  async *watch(blob: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
    try {
      yield* blob;
    } catch (error) {
      this.#thrown = { error };
      throw error;
    }
  }

  or(error: unknown): unknown {
    if (this.#thrown !== undefined) return this.#thrown.error;
    if (!(error instanceof ExpansionError)) return error;
    return new LayerError(error.code, error.message, { cause: error });
  }
}
