/** The expansion of one image of one repository, from the record on the disk to the teleport artifact. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Store } from '../../image/store.js';
import type { WorkerPool } from '../../layer/worker-pool.js';
import type { Limit } from '../../limit.js';
import type { Descriptor, Platform } from '../../oci/manifest.js';
import { canonicalName } from '../../oci/reference.js';
import { log } from '../../telemetry/logger.js';
import type { BlobOrigin, ExpansionResults, ImageExpansion, LayerStatus } from './expansion.js';
import { isTransient, pauseAfter, reasonOf } from './failure.js';
import { type ImagePlan, type PlannedLayer, planImage } from './image-plan.js';
import type { JobName, JobRecord, JobRecords, RecordedLayer } from './job-records.js';
import type { LayerTasks } from './layer-tasks.js';
import type { Shares } from './shares.js';
import type { Webhook } from './webhook.js';
import type { ExpansionTasks } from './worker-messages.js';

export interface JobServices {
  store: Store;
  origin: BlobOrigin;
  records: JobRecords;
  pool: WorkerPool<ExpansionTasks>;
  tasks: LayerTasks;
  shares: Shares;
  /** Images whose manifest is looked at, or that are stored, at the same time. */
  limit: Limit;
  webhook: Webhook | undefined;
  /** Counted by all jobs. */
  results: ExpansionResults;
}

export interface JobHost {
  /** Enqueues an image of an index. */
  enqueue(digest: string, tags: Readonly<Record<string, string>>): Promise<void>;
  /** Runs `settle` while the job does not change, and forgets the job when it gives true. */
  conclude(settle: () => Promise<boolean>): Promise<boolean>;
}

export class ImageJob {
  private readonly stop = new AbortController();
  private readonly time = Date.now();
  /** Ends the pause before the next attempt. */
  private wake = new AbortController();
  private tags: Record<string, string>;
  private saved: Record<string, string> | undefined;
  private layers: RecordedLayer[] | undefined;
  /** Why the last attempt has failed. */
  private reason: string | undefined;
  /** All layers are there. */
  private isMerging = false;
  private ended: Promise<void> = Promise.resolve();

  constructor(
    readonly name: JobName,
    tags: Readonly<Record<string, string>>,
    private readonly services: JobServices,
    isSaved = false,
  ) {
    this.tags = { ...tags };
    if (isSaved) this.saved = this.tags;
  }

  addTags(tags: Readonly<Record<string, string>>): void {
    if (Object.entries(tags).some(([tag, target]) => this.tags[tag] !== target))
      this.tags = { ...this.tags, ...tags };
  }

  removeTag(tag: string): void {
    const { [tag]: _, ...others } = this.tags;
    this.tags = others;
  }

  /** The record is on the disk when it resolves. */
  async save(): Promise<void> {
    const { tags, time } = this;
    if (this.saved === tags) return;
    await this.services.records.write('pending', this.name, { tags, time });
    this.saved = tags;
  }

  retryNow(): void {
    this.services.tasks.retryNow(this.layers ?? []);
    this.wake.abort();
  }

  /** Breaks it off, and resolves when nothing of it runs any more. */
  async abort(): Promise<void> {
    this.stop.abort();
    this.wake.abort();
    await this.ended;
  }

  /** Resolves when the image has been settled or the job broken off. */
  run(host: JobHost): Promise<void> {
    this.ended = this.settle(host);
    return this.ended;
  }

  private async settle(host: JobHost): Promise<void> {
    const { signal } = this.stop;
    for (let attempts = 1; !signal.aborted; ) {
      try {
        await this.save();
        const { tags } = this;
        await this.attempt(host, attempts);
        const isSettled = await host.conclude(async () => {
          if (signal.aborted || this.tags !== tags) return false;
          await this.services.records.remove('pending', this.name);
          return true;
        });
        if (isSettled) return;
        attempts = 1;
      } catch (error) {
        if (signal.aborted) return;
        await this.pause(error, attempts++);
      }
    }
  }

  private async pause(error: unknown, attempts: number): Promise<void> {
    this.reason = reasonOf(error);
    this.services.results.retried += 1;
    const pause = pauseAfter(attempts);
    const { repository, digest } = this.name;
    const again = `${Math.round(pause)} ms`;
    log.warn('an image is not expanded yet', { repository, digest, reason: this.reason, again });
    this.wake = new AbortController();
    await sleep(pause, undefined, { signal: this.wake.signal }).catch(() => undefined);
  }

  /** Throws what is worth another attempt; what is not has a record as failed. */
  private async attempt(host: JobHost, attempts: number): Promise<void> {
    try {
      await this.expand(host);
    } catch (error) {
      if (this.stop.signal.aborted || isTransient(error, attempts)) throw error;
      await this.fail(reasonOf(error));
    }
  }

  private async expand(host: JobHost): Promise<void> {
    const { origin, records, tasks, limit } = this.services;
    const { repository, digest } = this.name;
    const { signal } = this.stop;
    const plan = await limit.run(() => planImage(origin, repository, digest, signal));
    if (plan.kind === 'index') {
      for (const child of plan.manifests) await host.enqueue(child, child === plan.named ? this.tags : {});
    } else if (plan.kind === 'image') {
      const { layers } = plan;
      this.layers = layers.map(({ blob, diffID }) => ({ digest: blob.digest, diffID, total: blob.size }));
      const release = tasks.hold(layers);
      try {
        if (await this.expandLayers(layers)) await limit.run(() => this.publish());
      } finally {
        release();
        this.isMerging = false;
      }
    } else if (plan.kind === 'missing') {
      await records.remove('expanded', this.name);
    }
  }

  /** False when one of them cannot be expanded; the image has failed then. The others are expanded all the same. */
  private async expandLayers(layers: readonly PlannedLayer[]): Promise<boolean> {
    const { tasks } = this.services;
    const { signal } = this.stop;
    const recorded = this.layers ?? [];
    await Promise.all(
      layers.map(async (layer, i) => {
        const entry = recorded[i] as RecordedLayer;
        try {
          entry.bytes = await tasks.require(this.name.repository, layer, signal);
        } catch (error) {
          entry.reason = reasonOf(error);
        }
      }),
    );
    signal.throwIfAborted();
    const reason = recorded.find((layer) => layer.reason !== undefined)?.reason;
    if (reason === undefined) return true;
    await this.fail(reason);
    return false;
  }

  /** The manifest is read again, since very many images can wait for their layers. */
  private async publish(): Promise<void> {
    const { origin, shares } = this.services;
    const { repository, digest } = this.name;
    const { signal } = this.stop;
    this.isMerging = true;
    const plan = await planImage(origin, repository, digest, signal);
    if (plan.kind !== 'image') return;
    const diffIDs = plan.layers.map(({ diffID }) => diffID);
    await shares.publishing(repository, { digest, diffIDs }, async (share) => {
      const artifact = await this.merge(plan, share.store.dir);
      const isStored = await origin.storeArtifact(repository, await share.artifact(artifact));
      if (isStored) await this.succeed(artifact, plan.platform);
    });
  }

  private async merge(plan: ImagePlan, share: string): Promise<Descriptor> {
    const { descriptor: manifest, manifestBytes, configBytes, layers } = plan;
    const diffIDs = layers.map(({ diffID }) => diffID);
    const names = await this.currentNames();
    const task = { kind: 'publish' as const, share, manifest, manifestBytes, configBytes, diffIDs, names };
    const { signal } = this.stop;
    return (await this.services.pool.run(task, { signal, isUrgent: true })).artifact;
  }

  /** Those of the tags that still stand for the image. */
  private async currentNames(): Promise<string[]> {
    const { repository } = this.name;
    const names: string[] = [];
    for (const [tag, target] of Object.entries(this.tags)) {
      if ((await this.services.origin.resolve(repository, tag, this.stop.signal)) === target)
        names.push(canonicalName(`${repository}:${tag}`));
    }
    return names;
  }

  private async succeed(artifact: Descriptor, platform: Platform): Promise<void> {
    const { records, webhook } = this.services;
    const { tags, time, layers = [] } = this;
    const isNew = (await records.read('expanded', this.name)) === undefined;
    await records.write('expanded', this.name, { tags, time, layers, platform, artifact });
    this.reason = undefined;
    if (!isNew) return;
    this.services.results.expanded += 1;
    const { repository, digest } = this.name;
    log.info('expanded an image', { repository, digest, ms: Date.now() - time });
    await webhook?.add({ event: 'expanded', repository, digest, tags: Object.keys(tags), artifact }, time);
  }

  private async fail(reason: string): Promise<void> {
    const { records, webhook } = this.services;
    const { tags, time, layers } = this;
    const { repository, digest } = this.name;
    await records.write('failed', this.name, {
      tags,
      time,
      reason,
      ...(layers === undefined ? {} : { layers }),
    });
    this.services.results.failed += 1;
    log.warn('an image cannot be expanded', { repository, digest, reason });
    await webhook?.add({ event: 'failed', repository, digest, tags: Object.keys(tags), reason }, time);
  }

  status(): ImageExpansion {
    const layers = (this.layers ?? []).map((layer) => this.layerStatus(layer));
    const isBusy = this.isMerging || layers.some(({ status }) => status === 'expanding');
    const { reason } = this;
    return { state: isBusy ? 'expanding' : 'queued', layers, ...(reason === undefined ? {} : { reason }) };
  }

  private layerStatus(layer: RecordedLayer): LayerStatus {
    const { digest, diffID, total } = layer;
    const progress = this.services.tasks.progress({ blob: { mediaType: '', digest, size: total }, diffID });
    return progress === undefined ? settledStatus(layer) : { digest, diffID, total, ...progress };
  }
}

function settledStatus({ digest, diffID, total, bytes, reason }: RecordedLayer): LayerStatus {
  if (reason !== undefined) return { digest, diffID, total, status: 'failed', reason };
  if (bytes !== undefined) return { digest, diffID, total, status: 'expanded', bytes };
  return { digest, diffID, total, status: 'queued' };
}

/** What a record says of an image that is not in work. */
export function recordedStatus(kind: 'expanded' | 'failed', record: JobRecord): ImageExpansion {
  const layers = (record.layers ?? []).map(settledStatus);
  const { reason, platform, artifact } = record;
  return {
    state: kind,
    layers,
    ...(reason === undefined ? {} : { reason }),
    ...(platform === undefined ? {} : { platform }),
    ...(artifact === undefined ? {} : { artifact }),
  };
}
