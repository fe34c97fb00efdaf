/** What worker-pool.ts and the threads of worker.ts say to each other, and how errors cross between them. */
import type { MessagePort } from 'node:worker_threads';
import { OrcaError } from '../../errors.js';
import type { Descriptor } from '../../oci/manifest.js';

/** A blob as a file, or from the thread that has it. */
export type BlobInput = { path: string } | { port: MessagePort };

interface LayerTask {
  /** Descriptor of the blob. */
  blob: Descriptor;
  /** What the image config says that the blob holds. */
  diffID: string;
}

/** Makes a layer VHD in the store, or finds that it is there and the blob is one of it. */
export interface ExpandTask extends LayerTask {
  kind: 'expand';
  /** Path of the store. */
  store: string;
}

/** Merges the layers of an image, which are in the share's store already, and enters the image there. */
export interface PublishTask {
  kind: 'publish';
  /** Path of the repository's store. */
  share: string;
  manifest: Descriptor;
  manifestBytes: Uint8Array;
  configBytes: Uint8Array;
  diffIDs: readonly string[];
  /** Canonical names. */
  names: readonly string[];
}

export type Task = ExpandTask | PublishTask;

/** Bytes of the layer VHD. */
export interface ExpandResult {
  bytes: number;
}

/** Descriptor of the teleport artifact, which the share's store has. */
export interface PublishResult {
  artifact: Descriptor;
}

export interface TaskResults {
  expand: ExpandResult;
  publish: PublishResult;
}

export type ToWorker = { kind: 'run'; task: Task; input?: BlobInput } | { kind: 'abort' };

export type FromWorker =
  | { kind: 'progress'; bytesIn: number }
  | { kind: 'done'; result: ExpandResult | PublishResult }
  | { kind: 'failed'; error: ErrorMessage };

/** Of a blob's port: the worker asks for a chunk at a time, ahead of its need. */
export type FromBlob = { chunk: Uint8Array } | { end: true } | { error: ErrorMessage };
export type ToBlob = 'next';

export interface ErrorMessage {
  message: string;
  code: string | undefined;
  retryable: boolean;
  /** Of an error that nobody raises on purpose. */
  stack: string | undefined;
}

/** What went wrong in another thread. */
export class ExpansionError extends OrcaError {}

export function encodeError(error: unknown): ErrorMessage {
  if (error instanceof OrcaError)
    return { message: error.message, code: error.code, retryable: error.retryable, stack: undefined };
  const { message, code, stack } = error instanceof Error ? (error as NodeJS.ErrnoException) : ({} as never);
  return { message: message ?? String(error), code: code && String(code), retryable: false, stack };
}

export function decodeError({ message, code, retryable, stack }: ErrorMessage): ExpansionError {
  const error = new ExpansionError(code ?? 'UNEXPECTED', message, { retryable });
  if (stack !== undefined) error.stack = stack;
  return error;
}
