/**
 * Compares passwords with bcrypt hashes, one after the other in a thread of its own: a comparison takes 50 ms of a
 * processor and more, in which the thread that serves requests would do nothing else.
 */

import { Worker } from 'node:worker_threads';
import { entryOf } from '../installation.js';
import { ApiError } from './api-error.js';

/** Whoever guesses passwords asks for many. */
const MAX_WAITING = 100;
/** bcrypt looks at no more of a password. */
const MAX_PASSWORD_BYTES = 72;

/** @internal A message to the thread. */
export interface Comparison {
  id: number;
  password: string;
  hash: string;
}

export class Passwords {
  private worker: Worker | undefined;
  private readonly waiting = new Map<number, (equal: boolean) => void>();
  private next = 0;

  /** Throws ApiError TOOMANYREQUESTS when too many want to know at once. */
  async compare(password: string, hash: string): Promise<boolean> {
    if (this.waiting.size >= MAX_WAITING) {
      throw new ApiError('TOOMANYREQUESTS', { headers: { 'retry-after': '5' } });
    }
    const fits = Buffer.byteLength(password) <= MAX_PASSWORD_BYTES;
    const id = this.next++;
    const answer = new Promise<boolean>((resolve) => this.waiting.set(id, resolve));
    const comparison: Comparison = { id, password: fits ? password : '', hash };
    this.worker ??= this.start();
    this.worker.ref();
    this.worker.postMessage(comparison);
    return (await answer) && fits;
  }

  private start(): Worker {
    const worker = new Worker(entryOf('password-worker'));
    worker.on('message', ({ id, equal }: { id: number; equal: boolean }) => this.answer(id, equal));
    // A thread that dies has compared nothing; the next password gets another one.
    worker.on('error', () => {
      if (this.worker === worker) this.worker = undefined;
      for (const id of [...this.waiting.keys()]) this.answer(id, false);
    });
    return worker;
  }

  private answer(id: number, equal: boolean): void {
    this.waiting.get(id)?.(equal);
    this.waiting.delete(id);
    if (this.waiting.size === 0) this.worker?.unref();
  }
}
