/**
 * Threads that do what would hold up the serving of requests: decompressing, laying out, hashing, merging. A thread
 * that breaks, or needs more memory than it may have, fails its task and is replaced.
 */

import { MessageChannel, type TransferListItem, Worker } from 'node:worker_threads';
import { entryOf } from '../installation.js';
import { serveBlob } from './blob-port.js';
import {
  type BlobInput,
  decodeError,
  ExpansionError,
  type FromWorker,
  type ToWorker,
} from './worker-messages.js';

export interface WorkerPoolOptions {
  /** What the threads run: a module that calls `serveTasks`. */
  entry: 'expansion-worker' | 'layer-worker';
  /** Threads. */
  workers: number;
  /** MiB of script heap that each may have. */
  memory: number;
}

export interface RunOptions {
  signal: AbortSignal;
  /** The blob of an expand task. */
  blob?: { path: string } | { open(signal: AbortSignal): AsyncIterable<Uint8Array> };
  /** Of what the task has, what is handed over. */
  transfer?: TransferListItem[];
  /** Comes before what waits without it. */
  isUrgent?: boolean;
  /** Those of whom nothing has been begun for longest come first. */
  owner?: string;
  onStart?(): void;
  onProgress?(bytesIn: number): void;
}

/** A thread that has been told to stop and does not is ended; what it held is freed by the kernel. */
const STOP_MS = 5000;
/** Threads that have nothing to do give their memory back. */
const IDLE_MS = 30_000;
/** MiB of its heap for what is new: buffers that have passed are freed when it is full, and no sooner. */
const YOUNG_MEMORY = 4;

interface Waiting {
  owner: string;
  begin(thread: PoolThread): void;
  fail(error: unknown): void;
}

interface PoolThread {
  worker: Worker;
  idle: NodeJS.Timeout | undefined;
}

/** Tasks by their kind, and what comes of them. */
export type Tasks<T> = { [K in keyof T]: { task: { kind: K }; result: unknown } };

/** `T`: what its threads can do. */
export class WorkerPool<T extends Tasks<T>> {
  private readonly free: PoolThread[] = [];
  private readonly threads = new Set<PoolThread>();
  private readonly urgent: Waiting[] = [];
  private readonly waiting: Waiting[] = [];
  /** When something was last begun for an owner, as a count; of those that wait. */
  private readonly begun = new Map<string, number>();
  private count = 0;
  private closed = false;

  constructor(private readonly options: WorkerPoolOptions) {}

  /**
   * Runs a task when a thread is free for it. Rejects with what it failed with, as an ExpansionError (OUT_OF_MEMORY or
   * CRASHED when the thread has died), or with the signal's reason.
   */
  async run<K extends keyof T>(
    task: T[K]['task'] & { kind: K },
    options: RunOptions,
  ): Promise<T[K]['result']> {
    const thread = await this.acquire(options);
    try {
      options.onStart?.();
      return await this.runOn(thread, task, options);
    } finally {
      this.release(thread);
    }
  }

  private acquire({ signal, isUrgent, owner = '' }: RunOptions): Promise<PoolThread> {
    signal.throwIfAborted();
    const queue = isUrgent ? this.urgent : this.waiting;
    return new Promise((resolve, reject) => {
      const leave = () => {
        queue.splice(queue.indexOf(entry), 1);
        reject(signal.reason);
      };
      const entry: Waiting = {
        owner,
        begin: (thread) => {
          signal.removeEventListener('abort', leave);
          resolve(thread);
        },
        fail: (error) => {
          signal.removeEventListener('abort', leave);
          reject(error);
        },
      };
      signal.addEventListener('abort', leave, { once: true });
      queue.push(entry);
      this.dispatch();
    });
  }

  private dispatch(): void {
    while (this.urgent.length + this.waiting.length > 0) {
      const thread = this.free.pop() ?? (this.threads.size < this.options.workers ? this.start() : undefined);
      if (thread === undefined) return;
      clearTimeout(thread.idle);
      thread.worker.ref();
      (this.urgent.shift() ?? this.nextInTurn())?.begin(thread);
    }
  }

  /** One with a thousand layers does not hold up one with a single layer. */
  private nextInTurn(): Waiting | undefined {
    let best = 0;
    const turn = (at: number) => this.begun.get(this.waiting[at]?.owner ?? '') ?? -1;
    for (let at = 1; at < this.waiting.length; at++) if (turn(at) < turn(best)) best = at;
    const [entry] = this.waiting.splice(best, 1);
    if (this.waiting.length === 0) this.begun.clear();
    else if (entry !== undefined) this.begun.set(entry.owner, this.count++);
    return entry;
  }

  private start(): PoolThread {
    const worker = new Worker(entryOf(this.options.entry), {
      name: `orca ${this.options.entry}`,
      resourceLimits: {
        maxOldGenerationSizeMb: this.options.memory,
        maxYoungGenerationSizeMb: YOUNG_MEMORY,
      },
    });
    const thread: PoolThread = { worker, idle: undefined };
    this.threads.add(thread);
    // Without a task there is nobody else who listens.
    worker.on('error', () => undefined);
    worker.on('exit', () => {
      this.threads.delete(thread);
      const at = this.free.indexOf(thread);
      if (at >= 0) this.free.splice(at, 1);
      if (!this.closed) this.dispatch();
    });
    return thread;
  }

  private release(thread: PoolThread): void {
    if (!this.threads.has(thread)) return;
    if (this.closed) return void thread.worker.terminate();
    thread.worker.unref();
    thread.idle = setTimeout(() => void thread.worker.terminate(), IDLE_MS);
    thread.idle.unref();
    this.free.push(thread);
    this.dispatch();
  }

  private async runOn<K extends keyof T>(
    { worker }: PoolThread,
    task: T[K]['task'],
    { signal, blob, transfer = [], onProgress }: RunOptions,
  ): Promise<T[K]['result']> {
    const own = new AbortController();
    const either = AbortSignal.any([own.signal, signal]);
    const input = blob && inputOf(blob, either);
    let timer: NodeJS.Timeout | undefined;
    const abort = () => {
      worker.postMessage({ kind: 'abort' } satisfies ToWorker<never>);
      timer = setTimeout(() => void worker.terminate(), STOP_MS);
    };
    let onMessage!: (message: FromWorker<T[K]['result']>) => void;
    let onError!: (error: NodeJS.ErrnoException) => void;
    let onExit!: (code: number) => void;
    try {
      return await new Promise((resolve, reject) => {
        onMessage = (message) => {
          if (message.kind === 'progress') onProgress?.(message.bytesIn);
          else if (message.kind === 'failed')
            reject(signal.aborted ? signal.reason : decodeError(message.error));
          else resolve(message.result);
        };
        onError = (error) => reject(this.died(error));
        onExit = (code) =>
          reject(
            signal.aborted
              ? signal.reason
              : new ExpansionError('CRASHED', `a worker thread ended with code ${code}`),
          );
        worker.on('message', onMessage);
        worker.on('error', onError);
        worker.on('exit', onExit);
        signal.addEventListener('abort', abort, { once: true });
        const message: ToWorker<T[K]['task']> = {
          kind: 'run',
          task,
          ...(input === undefined ? {} : { input: input.sent }),
        };
        worker.postMessage(message, [...transfer, ...(input?.transfer ?? [])]);
      });
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
      worker.off('message', onMessage);
      worker.off('error', onError);
      worker.off('exit', onExit);
      own.abort();
      input?.close();
    }
  }

  private died(error: NodeJS.ErrnoException): ExpansionError {
    if (error.code === 'ERR_WORKER_OUT_OF_MEMORY') {
      const message = `it needs more than the ${this.options.memory} MiB of memory that a worker may have`;
      return new ExpansionError('OUT_OF_MEMORY', message, { cause: error });
    }
    return new ExpansionError('CRASHED', `a worker thread broke: ${error.message}`, { cause: error });
  }

  /** Ends all threads; tasks that have not been aborted fail. */
  async close(): Promise<void> {
    this.closed = true;
    const error = new ExpansionError('CLOSED', 'the threads have been ended');
    for (const entry of [...this.urgent.splice(0), ...this.waiting.splice(0)]) entry.fail(error);
    await Promise.all([...this.threads].map(({ worker }) => worker.terminate()));
  }
}

interface Input {
  sent: BlobInput;
  transfer: TransferListItem[];
  close(): void;
}

function inputOf(blob: NonNullable<RunOptions['blob']>, signal: AbortSignal): Input {
  if ('path' in blob) return { sent: { path: blob.path }, transfer: [], close: () => undefined };
  const { port1, port2 } = new MessageChannel();
  serveBlob(blob.open(signal), port1).catch(() => {
    // The reader has got the error; what closing the blob throws concerns nobody.
  });
  return { sent: { port: port2 }, transfer: [port2], close: () => port1.close() };
}
