/** The thread in which passwords.ts compares. */
import { parentPort } from 'node:worker_threads';
import { compareSync } from 'bcryptjs';
import type { Comparison } from './passwords.js';

parentPort?.on('message', ({ id, password, hash }: Comparison) => {
  parentPort?.postMessage({ id, equal: compareSync(password, hash) });
});
