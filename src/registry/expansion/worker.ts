/** A thread of worker-pool.ts: expands layers and merges images, one task at a time. */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { parentPort } from 'node:worker_threads';
import { layerPath } from '../../image/catalog.js';
import { Store } from '../../image/store.js';
import { verifyTar } from '../../layer/verify-tar.js';
import { verifyStream } from '../../oci/digest.js';
import { parseManifest } from '../../oci/manifest.js';
import { OciError } from '../../oci/oci-error.js';
import { readBlob } from './blob-port.js';
import { withDiskReserve } from './disk-reserve.js';
import {
  type BlobInput,
  type ExpandResult,
  type ExpandTask,
  encodeError,
  type FromWorker,
  type PublishResult,
  type PublishTask,
  type ToWorker,
} from './worker-messages.js';

const READ_BYTES = 256 << 10;
/** Milliseconds between two reports of progress. */
const REPORT_MS = 100;

let stop = new AbortController();

parentPort?.on('message', (message: ToWorker) => {
  if (message.kind === 'abort') {
    stop.abort();
    return;
  }
  const { task, input } = message;
  stop = new AbortController();
  const { signal } = stop;
  const ended =
    task.kind === 'expand'
      ? withDiskReserve(task.store, signal, (either) => expand(task, input, either))
      : publish(task, signal);
  ended.then(
    (result) => post({ kind: 'done', result }),
    (error: unknown) => post({ kind: 'failed', error: encodeError(error) }),
  );
});

function post(message: FromWorker): void {
  parentPort?.postMessage(message);
}

async function expand(
  task: ExpandTask,
  input: BlobInput | undefined,
  signal: AbortSignal,
): Promise<ExpandResult> {
  const { blob, diffID } = task;
  const store = await Store.open(task.store);
  const report = reporter();
  let isVerified = false;
  const stream = verifyStream(bytesOf(input, blob.digest), blob, 'layer');
  const open = () => {
    isVerified = true;
    return { [Symbol.asyncIterator]: () => ({ next: () => stream.next() }) };
  };
  try {
    if (!(await store.hasLayer(diffID))) {
      const layer = { ...blob, diffID, open };
      await store.expandLayer(layer, { signal, onProgress: ({ bytesIn }) => report(bytesIn) });
    }
    // A layer that was made of another blob says nothing of this one.
    if (!isVerified) await verifyTar(open(), { diffID, signal, onProgress: report });
    // The digest is verified at the end, which a decompressor may not have asked for.
    while (!(await stream.next()).done) signal.throwIfAborted();
  } finally {
    await stream.return();
  }
  return { bytes: (await stat(store.path(layerPath(diffID)))).size };
}

function reporter(): (bytesIn: number) => void {
  let reported = 0;
  return (bytesIn) => {
    const now = performance.now();
    if (now - reported < REPORT_MS) return;
    reported = now;
    post({ kind: 'progress', bytesIn });
  };
}

async function* bytesOf(
  input: BlobInput | undefined,
  digest: string,
): AsyncGenerator<Uint8Array, void, void> {
  if (input === undefined) throw new TypeError('a layer without a blob');
  if ('port' in input) {
    yield* readBlob(input.port);
    return;
  }
  try {
    for await (const chunk of createReadStream(input.path, { highWaterMark: READ_BYTES }))
      yield chunk as Buffer;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause;
    throw new OciError('NOT_FOUND', `blob ${digest} has been deleted`, { cause });
  }
}

async function publish(task: PublishTask, signal: AbortSignal): Promise<PublishResult> {
  const { manifest, manifestBytes, configBytes, diffIDs } = task;
  const store = await Store.open(task.share);
  const image = {
    manifestDigest: manifest.digest,
    manifest: { ...parseManifest(manifestBytes), mediaType: manifest.mediaType },
    manifestBytes,
    configBytes,
    layers: diffIDs.map((diffID) => ({ diffID })),
  };
  const { artifact } = await store.publish(image, task.names, signal);
  return { artifact };
}
