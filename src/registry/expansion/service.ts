/**
 * The expansion service: each image that is enqueued goes from a record on the disk through its plan, its layers and
 * the merge to a teleport artifact, again and again until it is done or cannot be done.
 */
import { mkdir } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import { Store } from '../../image/store.js';
import { ExpansionError } from '../../layer/worker-messages.js';
import { WorkerPool } from '../../layer/worker-pool.js';
import { Limit } from '../../limit.js';
import { canonicalName } from '../../oci/reference.js';
import { log } from '../../telemetry/logger.js';
import type { DataDirectory } from '../data-directory.js';
import { KeyedLock } from '../keyed-lock.js';
import { collectLayers } from './collect-layers.js';
import type {
  BlobOrigin,
  Expansion,
  ExpansionCounts,
  ImageExpansion,
  QueuedImage,
  StoreGarbage,
} from './expansion.js';
import { findImages } from './find-images.js';
import { ImageJob, type JobServices, recordedStatus } from './image-job.js';
import { type JobName, JobRecords } from './job-records.js';
import { LayerTasks } from './layer-tasks.js';
import { Shares } from './shares.js';
import { VerifiedBlobs } from './verified-blobs.js';
import { Webhook, type WebhookOptions } from './webhook.js';
import type { ExpansionTasks } from './worker-messages.js';

export interface ExpansionOptions {
  /** Worker threads; default: the number of processors. */
  workers?: number;
  /** MiB of script heap that each may have; default: all together half of what the machine has, at most 4 GiB each. */
  workerMemory?: number;
  webhook?: WebhookOptions;
}

/** Enough for a layer of four million files. */
const MAX_WORKER_MEMORY = 4096;
const MIN_WORKER_MEMORY = 256;
/** Manifests and configs of 4 MiB each are in memory meanwhile. */
const IMAGES_AT_ONCE = 8;

export class ExpansionService implements Expansion {
  private readonly jobs = new Map<string, ImageJob>();
  /** Held, by image, while it is enqueued or forgotten. */
  private readonly locks = new KeyedLock();

  private closed = false;

  private constructor(
    private readonly services: JobServices,
    private readonly verified: VerifiedBlobs,
  ) {}

  /** Takes up what was left undone. Throws ImageError when `store/` is not a store, and system errors. */
  static async open(
    data: DataDirectory,
    origin: BlobOrigin,
    options: ExpansionOptions = {},
  ): Promise<ExpansionService> {
    const { workers = availableParallelism(), workerMemory = memoryOf(workers) } = options;
    await mkdir(data.join('store'), { recursive: true });
    const store = await Store.open(data.join('store'), { create: true });
    const records = new JobRecords(data);
    const verified = new VerifiedBlobs(data);
    const pool = new WorkerPool<ExpansionTasks>({ entry: 'expansion-worker', workers, memory: workerMemory });
    const tasks = new LayerTasks({ store, origin, pool, verified });
    const webhook = options.webhook && (await Webhook.open(data, options.webhook));
    const shares = new Shares(data, store, records);
    const limit = new Limit(IMAGES_AT_ONCE);
    const results = { expanded: 0, failed: 0, retried: 0 };
    const services = { store, origin, records, pool, tasks, shares, limit, webhook, results };
    const service = new ExpansionService(services, verified);
    await service.resume();
    return service;
  }

  private async resume(): Promise<void> {
    const { records } = this.services;
    for (const repository of await records.repositories('pending')) {
      for (const digest of await records.digests('pending', repository)) {
        const name = { repository, digest };
        const record = await records.read('pending', name);
        this.start(new ImageJob(name, record?.tags ?? {}, this.services, true));
      }
    }
    if (this.jobs.size > 0) log.info('images are left to be expanded', { images: this.jobs.size });
  }

  private start(job: ImageJob): void {
    const key = keyOf(job.name);
    this.jobs.set(key, job);
    job
      .run({
        enqueue: (digest, tags) => this.add({ repository: job.name.repository, digest }, tags),
        conclude: (settle) =>
          this.locks.holding(key, async () => {
            const isSettled = await settle();
            if (isSettled) this.jobs.delete(key);
            return isSettled;
          }),
      })
      .catch((error: Error) => log.error('the expansion of an image ended', { image: key, error }))
      .finally(() => {
        if (this.jobs.get(key) === job) this.jobs.delete(key);
      });
  }

  async enqueue(repository: string, manifestDigest: string, tags: readonly string[] = []): Promise<void> {
    const targets = Object.fromEntries(tags.map((tag) => [tag, manifestDigest]));
    await this.add({ repository, digest: manifestDigest }, targets);
  }

  /**
   * `tags` with the digest that each stands for: the image's, or that of an index of it. `again`: what is expanded is
   * looked at as if it were not.
   */
  private async add(name: JobName, tags: Readonly<Record<string, string>>, again = false): Promise<void> {
    if (this.closed) throw new ExpansionError('CLOSED', 'the registry is being stopped');
    const { records, tasks } = this.services;
    await this.locks.holding(keyOf(name), async () => {
      const running = this.jobs.get(keyOf(name));
      if (running !== undefined) {
        running.addTags(tags);
        if (again) running.retryNow();
        await running.save();
        return;
      }
      const expanded = await records.read('expanded', name);
      // Tags are entered again also where they are known, since they may have stood for something else meanwhile.
      if (expanded !== undefined && Object.keys(tags).length === 0 && !again) return;
      const failed = await records.read('failed', name);
      tasks.forgive(failed?.layers ?? []);
      const job = new ImageJob(name, { ...expanded?.tags, ...failed?.tags, ...tags }, this.services);
      try {
        await job.save();
      } finally {
        // What the disk does not take yet is tried again.
        this.start(job);
      }
      if (failed !== undefined) await records.remove('failed', name);
    });
  }

  async enqueueRepository(repository: string, reference?: string): Promise<QueuedImage[]> {
    const images = await findImages(this.services.origin, repository, reference);
    for (const { digest, tags } of images) await this.add({ repository, digest }, tags, true);
    return images.map(({ digest, seenBy }) => ({ digest, tags: [...seenBy].sort() }));
  }

  async status(repository: string, manifestDigest: string): Promise<ImageExpansion | undefined> {
    const { records } = this.services;
    const name = { repository, digest: manifestDigest };
    const expanded = await records.read('expanded', name);
    if (expanded !== undefined) return recordedStatus('expanded', expanded);
    const job = this.jobs.get(keyOf(name));
    if (job !== undefined) return job.status();
    const failed = await records.read('failed', name);
    if (failed !== undefined) return recordedStatus('failed', failed);
    // It may have ended while the records were looked for.
    const late = await records.read('expanded', name);
    return late && recordedStatus('expanded', late);
  }

  counts(): ExpansionCounts {
    const states = [...this.jobs.values()].map((job) => job.status().state);
    const expanding = states.filter((state) => state === 'expanding').length;
    return { queued: states.length - expanding, expanding, results: { ...this.services.results } };
  }

  async forget(repository: string, manifestDigest: string, subject?: string): Promise<void> {
    const { records, origin, shares } = this.services;
    const name = { repository, digest: manifestDigest };
    await this.jobs.get(keyOf(name))?.abort();
    const expanded = await this.locks.holding(keyOf(name), async () => {
      const record = await records.read('expanded', name);
      // The last one to go is the one by which the garbage collection finds that there is something left to do.
      for (const kind of ['pending', 'failed', 'expanded'] as const) {
        if (kind === 'expanded' && record?.artifact !== undefined)
          await origin.removeArtifact(repository, record.artifact.digest);
        await records.remove(kind, name);
      }
      return record;
    });
    if (expanded !== undefined) await shares.retain(repository);
    if (subject !== undefined) await this.restore({ repository, digest: subject }, manifestDigest);
  }

  /** Expands an image again when it has lost the artifact. */
  private async restore(name: JobName, artifact: string): Promise<void> {
    const { records } = this.services;
    const record = await records.read('expanded', name);
    if (record?.artifact?.digest !== artifact) return;
    await records.remove('expanded', name);
    await this.add(name, record.tags);
  }

  async forgetTag(repository: string, tag: string): Promise<void> {
    await this.services.shares.removeName(repository, canonicalName(`${repository}:${tag}`));
  }

  sharePath(repository: string): string {
    return this.services.shares.path(repository);
  }

  async collectGarbage(grace: number): Promise<StoreGarbage> {
    const { records, origin } = this.services;
    let images = 0;
    for (const kind of ['expanded', 'failed'] as const) {
      for (const repository of await records.repositories(kind)) {
        for (const digest of await records.digests(kind, repository)) {
          if (await origin.hasManifest(repository, digest)) continue;
          await this.forget(repository, digest);
          images++;
        }
      }
    }
    return { images, ...(await collectLayers({ ...this.services, verified: this.verified }, grace)) };
  }

  async close(): Promise<void> {
    this.closed = true;
    await Promise.all([...this.jobs.values()].map((job) => job.abort()));
    await this.services.pool.close();
    await this.services.webhook?.close();
  }
}

function keyOf({ repository, digest }: JobName): string {
  return `${repository}@${digest}`;
}

/** MiB that each of so many workers may have. */
function memoryOf(workers: number): number {
  const share = Math.floor(totalmem() / 2 / workers / 2 ** 20);
  return Math.max(MIN_WORKER_MEMORY, Math.min(share, MAX_WORKER_MEMORY));
}
