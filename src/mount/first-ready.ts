/** An image that its registry is still expanding: this host and the registry work at the same time. */
import type { ReadyImage, RegistryImage } from '../source/registry-image.js';
import type { OpenedImage } from './open-image.js';

export interface Contest {
  /** Reads the blobs here, until the signal ends it. */
  host(signal: AbortSignal): Promise<OpenedImage>;
  /** Waits for the registry, until the signal ends it. */
  registry(signal: AbortSignal): Promise<RegistryImage>;
  signal: AbortSignal | undefined;
}

/** Whoever is done first; the other is stopped. Where neither can, what kept the host from it is thrown. */
export async function firstReady({ host, registry, signal }: Contest): Promise<OpenedImage | ReadyImage> {
  const stop = new AbortController();
  const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  const byHost = host(either);
  const byRegistry = registry(either).then((answer) => {
    if (answer.state !== 'ready') throw new Error(`the registry says ${answer.state}`);
    return answer;
  });
  let first: OpenedImage | ReadyImage;
  try {
    first = await Promise.any([byHost, byRegistry]);
  } catch {
    signal?.throwIfAborted();
    return await byHost;
  } finally {
    stop.abort();
  }
  // What the other has opened nevertheless is not used.
  if ('state' in first) await byHost.then(({ close }) => close(), ignore);
  else
    void byRegistry.then(({ sources }) => Promise.all(sources.map((source) => source.close()))).catch(ignore);
  return first;
}

function ignore(): void {}
