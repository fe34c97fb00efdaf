/** What worker-pool.ts and the threads of worker-thread.ts say to each other, and how errors cross between them. */
import type { MessagePort } from 'node:worker_threads';
import { OrcaError } from '../errors.js';

/** A blob as a file, or from the thread that has it. */
export type BlobInput = { path: string } | { port: MessagePort };

export type ToWorker<Task> = { kind: 'run'; task: Task; input?: BlobInput } | { kind: 'abort' };

export type FromWorker<Result> =
  | { kind: 'progress'; bytesIn: number }
  | { kind: 'done'; result: Result }
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
