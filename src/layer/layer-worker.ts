/** A thread of layer-threads.ts: expands a layer, or decompresses one for somebody else. */
import type { MessagePort } from 'node:worker_threads';
import { serveBlob } from './blob-port.js';
import { decompress } from './decompress.js';
import { expandLayer } from './expand.js';
import type { BlobInput } from './worker-messages.js';
import { inputBytes, progressReporter, serveTasks } from './worker-thread.js';

export interface LayerTasks {
  expand: { task: ExpandTask; result: ThreadExpanded };
  decompress: { task: DecompressTask; result: undefined };
}

/** As ExpandOptions has them. */
interface ExpandTask {
  kind: 'expand';
  output: string;
  diffID: string;
  blobDigest: string | undefined;
}

interface DecompressTask {
  kind: 'decompress';
  /** Whoever reads the tar. */
  output: MessagePort;
}

export interface ThreadExpanded {
  /** Encoded. */
  digests: Uint8Array;
  recipe: Uint8Array | undefined;
  checkpoints: Uint8Array | undefined;
}

serveTasks(
  (task: ExpandTask | DecompressTask, input, signal): Promise<ThreadExpanded | undefined> =>
    task.kind === 'expand' ? expand(task, input, signal) : decompressFor(task, input),
);

async function expand(
  { output, diffID, blobDigest }: ExpandTask,
  input: BlobInput | undefined,
  signal: AbortSignal,
): Promise<ThreadExpanded> {
  const report = progressReporter();
  const { digests, recipe, checkpoints } = await expandLayer(inputBytes(input), {
    output,
    diffID,
    isLasting: false,
    signal,
    ...(blobDigest === undefined ? {} : { blobDigest }),
    onProgress: ({ bytesIn }) => report(bytesIn),
  });
  return { digests: digests.encode(), recipe, checkpoints };
}

async function decompressFor({ output }: DecompressTask, input: BlobInput | undefined): Promise<undefined> {
  await serveBlob(decompress(inputBytes(input)), output);
}
