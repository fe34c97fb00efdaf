/** Waiting for a registry that is still expanding an image. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { LayerProgress } from '../source/mount-description.js';
import type { RegistryImage } from '../source/registry-image.js';

export interface WaitOptions {
  /** Milliseconds after which what is said then is the result. */
  timeout: number;
  signal: AbortSignal | undefined;
  onExpanding?: ((layers: readonly LayerProgress[]) => void) | undefined;
}

/** A small image takes less than this, a large one so long that a question every few seconds is no load. */
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 3000;

/** Asks again, at growing intervals with jitter, while the answer is `expanding`. */
export async function awaitExpansion(
  ask: () => Promise<RegistryImage>,
  { timeout, signal, onExpanding }: WaitOptions,
): Promise<RegistryImage> {
  const deadline = performance.now() + timeout;
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(LONGEST_PAUSE_MS, pause * 1.5)) {
    const answer = await ask();
    const left = deadline - performance.now();
    if (answer.state !== 'expanding' || left <= 0) return answer;
    onExpanding?.(answer.layers);
    const jittered = pause * (0.5 + Math.random() / 2);
    await sleep(Math.min(jittered, left), undefined, signal === undefined ? {} : { signal }).catch(
      () => undefined,
    );
    signal?.throwIfAborted();
  }
}

/** `2 of 5 layers are done`, and why others are not: a layer that failed may be tried again. */
export function describeProgress(layers: readonly LayerProgress[]): string {
  if (layers.length === 0) return 'it does not say how far it is';
  const done = layers.filter(({ status }) => status === 'expanded').length;
  const reasons = new Set(layers.flatMap(({ reason }) => reason ?? []));
  return [`${done} of ${layers.length} layers are done`, ...reasons].join('; ');
}
