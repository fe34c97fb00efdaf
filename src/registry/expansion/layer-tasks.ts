/**
 * The layers that images wait for: each blob is gone through once, however many images of whatever repositories want
 * it, and blobs of the same diffID one after the other, so that the second finds the layer made.
 */
import { stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import { OrcaError } from '../../errors.js';
import { layerPath } from '../../image/catalog.js';
import type { Store } from '../../image/store.js';
import { LayerError } from '../../layer/layer-error.js';
import type { WorkerPool } from '../../layer/worker-pool.js';
import { log } from '../../telemetry/logger.js';
import { KeyedLock } from '../keyed-lock.js';
import type { BlobOrigin, ExpansionState } from './expansion.js';
import { isTransient, pauseAfter, reasonOf } from './failure.js';
import type { PlannedLayer } from './image-plan.js';
import type { VerifiedBlobs } from './verified-blobs.js';
import type { ExpansionTasks } from './worker-messages.js';

/** Layers that are known to be bad, so that the next image with one fails at once. */
const MAX_REMEMBERED_FAILURES = 10_000;

/** Codes that say something of a repository, or of the right to read it, and nothing of the bytes. */
const OF_THE_ORIGIN = new Set(['NOT_FOUND', 'BLOB_UNKNOWN', 'NAME_UNKNOWN', 'UNAUTHORIZED', 'DENIED']);

export interface LayerProgress {
  status: ExpansionState;
  /** Bytes of the blob so far. */
  bytes: number;
  /** Why the last attempt has failed. */
  reason?: string;
}

interface LayerTask {
  layer: PlannedLayer;
  progress: LayerProgress;
  /** One for each image that waits; the repository has the blob. */
  waiters: { repository: string }[];
  stop: AbortController;
  /** Ends the pause before the next attempt. */
  wake: AbortController;
  /** Bytes of the layer VHD. */
  result: Promise<number>;
}

export interface LayerTasksOptions {
  store: Store;
  origin: BlobOrigin;
  pool: WorkerPool<ExpansionTasks>;
  verified: VerifiedBlobs;
}

export class LayerTasks {
  private readonly tasks = new Map<string, LayerTask>();
  private readonly failures = new LRUCache<string, Error>({ max: MAX_REMEMBERED_FAILURES });
  private readonly locks = new KeyedLock();
  /** How many images need the layer, by diffID. */
  private readonly needed = new Map<string, number>();

  constructor(private readonly options: LayerTasksOptions) {}

  /** Keeps layers from the garbage collection until the function that it returns is called. */
  hold(layers: readonly PlannedLayer[]): () => void {
    for (const { diffID } of layers) this.needed.set(diffID, (this.needed.get(diffID) ?? 0) + 1);
    return () => {
      for (const { diffID } of layers) {
        const left = (this.needed.get(diffID) ?? 0) - 1;
        if (left > 0) this.needed.set(diffID, left);
        else this.needed.delete(diffID);
      }
    };
  }

  isNeeded(diffID: string): boolean {
    return this.needed.has(diffID);
  }

  progress(layer: PlannedLayer): LayerProgress | undefined {
    return this.tasks.get(keyOf(layer))?.progress;
  }

  /** Has the next attempt at layers made at once. */
  retryNow(layers: readonly { digest: string; diffID: string }[]): void {
    for (const { digest, diffID } of layers) this.tasks.get(`${digest} ${diffID}`)?.wake.abort();
  }

  /** Forgets that layers have been found bad. */
  forgive(layers: readonly { digest: string; diffID: string }[]): void {
    for (const { digest, diffID } of layers) this.failures.delete(`${digest} ${diffID}`);
  }

  /**
   * Resolves with the length of the layer VHD once it is in the store and the blob is known to be a blob of it. The
   * caller holds the layer. Rejects with what makes that impossible, or with the signal's reason.
   */
  async require(repository: string, layer: PlannedLayer, signal: AbortSignal): Promise<number> {
    signal.throwIfAborted();
    const failure = this.failures.get(keyOf(layer));
    if (failure !== undefined) throw failure;
    const task = this.tasks.get(keyOf(layer)) ?? this.start(layer, repository);
    const waiter = { repository };
    task.waiters.push(waiter);
    return new Promise<number>((resolve, reject) => {
      const leave = () => {
        task.waiters.splice(task.waiters.indexOf(waiter), 1);
        if (task.waiters.length === 0) this.abandon(task);
        reject(signal.reason);
      };
      signal.addEventListener('abort', leave, { once: true });
      task.result.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave));
    });
  }

  private start(layer: PlannedLayer, repository: string): LayerTask {
    const task: LayerTask = {
      layer,
      progress: { status: 'queued', bytes: 0 },
      waiters: [],
      stop: new AbortController(),
      wake: new AbortController(),
      result: Promise.resolve(0),
    };
    this.tasks.set(keyOf(layer), task);
    task.result = this.perform(task, repository).finally(() => this.drop(task));
    task.result.catch(() => {
      // Whoever waits gets it; perhaps nobody does any more.
    });
    return task;
  }

  private abandon(task: LayerTask): void {
    task.stop.abort();
    this.drop(task);
  }

  private drop(task: LayerTask): void {
    if (this.tasks.get(keyOf(task.layer)) === task) this.tasks.delete(keyOf(task.layer));
  }

  private async perform(task: LayerTask, repository: string): Promise<number> {
    const { signal } = task.stop;
    const { blob, diffID } = task.layer;
    for (let attempts = 1; ; attempts++) {
      try {
        // One of those that wait, each in its turn: a repository may have lost the blob meanwhile.
        const from = task.waiters[attempts % Math.max(task.waiters.length, 1)]?.repository ?? repository;
        return await this.locks.holding(diffID, () => this.attempt(task, from));
      } catch (error) {
        signal.throwIfAborted();
        // What one repository does not give any more, another that waits may have.
        const isOfBlob = !(error instanceof OrcaError && OF_THE_ORIGIN.has(error.code));
        const others = new Set(task.waiters.map((waiter) => waiter.repository)).size;
        const isFinal = !isTransient(error, attempts) && (isOfBlob || attempts >= others);
        const details = { blob: blob.digest, diffID, reason: reasonOf(error) };
        if (isFinal) {
          log.warn('a layer cannot be expanded', details);
          if (isOfBlob) this.failures.set(keyOf(task.layer), error as Error);
          throw error;
        }
        const pause = pauseAfter(attempts);
        log.warn('a layer is not expanded yet', { ...details, again: `${Math.round(pause)} ms` });
        task.progress = { status: 'queued', bytes: 0, reason: reasonOf(error) };
        task.wake = new AbortController();
        const either = AbortSignal.any([signal, task.wake.signal]);
        await sleep(pause, undefined, { signal: either }).catch(() => undefined);
        signal.throwIfAborted();
      }
    }
  }

  private async attempt({ layer, progress, stop }: LayerTask, repository: string): Promise<number> {
    const { store, origin, pool, verified } = this.options;
    const { blob, diffID } = layer;
    const { signal } = stop;
    signal.throwIfAborted();
    const known = await verified.diffID(blob.digest);
    if (known !== undefined && known !== diffID) {
      const message = `the uncompressed layer has the digest ${known}, but should have ${diffID}`;
      throw new LayerError('DIGEST_MISMATCH', message);
    }
    if (known !== undefined && (await store.hasLayer(diffID)))
      return (await stat(store.path(layerPath(diffID)))).size;
    const { bytes } = await pool.run(
      { kind: 'expand', store: store.dir, blob, diffID },
      {
        signal,
        owner: repository,
        blob: origin.blobFile
          ? { path: origin.blobFile(blob.digest) }
          : { open: (either) => origin.openBlob(repository, blob, either) },
        onStart: () => {
          progress.status = 'expanding';
        },
        onProgress: (bytesIn) => {
          progress.bytes = bytesIn;
        },
      },
    );
    await verified.record(blob.digest, diffID);
    return bytes;
  }
}

/** A blob may be said to hold different layers; at most one of them is true. */
function keyOf({ blob, diffID }: PlannedLayer): string {
  return `${blob.digest} ${diffID}`;
}
