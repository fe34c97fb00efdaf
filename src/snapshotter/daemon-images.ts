/** Images mounted by the host daemon, so that containers go on when the snapshotter is restarted or killed. */
import { createHash } from 'node:crypto';
import type { DaemonClient } from '../daemon/client.js';
import { orderOf, thisCaller } from '../daemon/order.js';
import { log } from '../telemetry/logger.js';
import type { FoundImage, ImageFinder, PrepareImage } from './image-finder.js';
import type { RemoteImageInfo, RemoteImages } from './remote-images.js';

export class DaemonImages implements RemoteImages {
  readonly #daemon: DaemonClient;
  readonly #finder: ImageFinder;

  constructor(daemon: DaemonClient, finder: ImageFinder) {
    this.#daemon = daemon;
    this.#finder = finder;
  }

  find(reference: string, manifestDigest: string | undefined): Promise<RemoteImageInfo | { reason: string }> {
    return this.#finder.find(reference, manifestDigest);
  }

  /** The daemon knows mounts by their ids: the same again is no error. */
  async mount(image: FoundImage, layers: number, mountpoint: string): Promise<void> {
    await this.#daemon.createMount(idOf(mountpoint), {
      ...orderOf(this.#finder.requestFor(image, layers), thisCaller()),
      mountpoint,
    });
  }

  /** Containers that still use it keep it until they end. */
  async unmount(mountpoint: string): Promise<void> {
    await this.#daemon.removeMount(idOf(mountpoint), { lazy: true });
  }
}

/** By the daemon that is to mount it, which goes on with what containers want first. */
export function prepareByDaemon(daemon: DaemonClient): PrepareImage {
  return (request, signal) =>
    daemon.pull(
      { ...orderOf(request, thisCaller()), willMount: true },
      {
        signal,
        onLine: (line) => 'log' in line && log[line.log.level](line.log.message),
      },
    );
}

function idOf(mountpoint: string): string {
  return `snapshot-${createHash('sha256').update(mountpoint).digest('hex').slice(0, 24)}`;
}
