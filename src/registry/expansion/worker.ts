/** A thread of worker-pool.ts: expands layers and merges images, one task at a time. */
import { stat } from 'node:fs/promises';
import { layerPath } from '../../image/catalog.js';
import { Store } from '../../image/store.js';
import { verifyTar } from '../../layer/verify-tar.js';
import type { BlobInput } from '../../layer/worker-messages.js';
import { inputBytes, progressReporter, serveTasks } from '../../layer/worker-thread.js';
import { verifyStream } from '../../oci/digest.js';
import { parseManifest } from '../../oci/manifest.js';
import { OciError } from '../../oci/oci-error.js';
import { withDiskReserve } from './disk-reserve.js';
import type { ExpandResult, ExpandTask, PublishResult, PublishTask } from './worker-messages.js';

serveTasks(
  (task: ExpandTask | PublishTask, input, signal): Promise<ExpandResult | PublishResult> =>
    task.kind === 'expand'
      ? withDiskReserve(task.store, signal, (either) => expand(task, input, either))
      : publish(task, signal),
);

async function expand(
  task: ExpandTask,
  input: BlobInput | undefined,
  signal: AbortSignal,
): Promise<ExpandResult> {
  const { blob, diffID } = task;
  const store = await Store.open(task.store);
  const report = progressReporter();
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

async function* bytesOf(
  input: BlobInput | undefined,
  digest: string,
): AsyncGenerator<Uint8Array, void, void> {
  try {
    yield* inputBytes(input);
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
