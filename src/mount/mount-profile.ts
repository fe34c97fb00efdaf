/**
 * The startup profile of one mount. What earlier mounts of the image have left, here or published by other hosts, is
 * replayed: blocks are fetched ahead, names and pages walked through the mount. What this one is asked for is kept.
 */
import type { BlockCache, LayerLease } from '../cache/block-cache.js';
import { ProfileRecorder } from '../cache/profile-recorder.js';
import { prefetchProfile } from '../cache/profile-store.js';
import { MAX_PROFILE_BYTES, StartupProfile } from '../cache/startup-profile.js';
import type { Session } from '../native/addon.js';
import type { RemoteImage } from '../source/remote-image.js';
import { type Logger, log } from '../telemetry/logger.js';
import type { ProfileUse } from './profile-use.js';

/** Of the cache's limit, what a profile may fetch ahead: anybody may have written it. */
const CACHE_SHARE = 0.25;
/** A mount that ends does not wait longer for its registry. */
const PUBLISH_MS = 5000;

export interface MountProfileOptions {
  cache: BlockCache;
  image: RemoteImage;
  session: Session;
  leases: readonly LayerLease[];
  mountpoint: string;
  preload: boolean;
  use: Exclude<ProfileUse, 'off'>;
  /** Ends the replay. */
  signal: AbortSignal;
  logger: Logger | undefined;
}

export class MountProfile {
  readonly #options: MountProfileOptions;
  readonly #recorder: ProfileRecorder;
  readonly #log: Logger;
  #preloaded: StartupProfile | undefined;

  constructor(options: MountProfileOptions) {
    this.#options = options;
    this.#log = options.logger ?? log;
    const { cache, image, session, leases, use } = options;
    void this.#replay();
    this.#recorder = new ProfileRecorder(cache.profiles, {
      manifestDigest: image.manifestDigest,
      layers: leases.map(({ layer }) => layer.digests.diffID),
      touched: () => session.touched(),
      accesses: () => session.accesses(),
      preloaded: () => this.#preloaded,
      ...(use === 'share' && { share: (encoded: Uint8Array) => this.#publish(encoded) }),
    });
  }

  /** Keeps it as it is by now: for a process that is about to leave its mounts to another. */
  save(): Promise<void> {
    return this.#recorder.save();
  }

  end(): Promise<void> {
    return this.#recorder.end();
  }

  async #replay(): Promise<void> {
    const { cache, session, leases, mountpoint, preload, signal } = this.#options;
    const known = ((await this.#kept()) ?? (await this.#published()))?.usual();
    if (known === undefined || signal.aborted) return;
    const budget = cache.eviction.limit * CACHE_SHARE;
    const prefetched = prefetchProfile(cache.scheduler, leases, known, { budget, signal });
    if (preload) {
      this.#preloaded = known;
      session.preload(mountpoint, known.steps);
    }
    await prefetched;
  }

  #kept(): Promise<StartupProfile | undefined> {
    const { cache, image } = this.#options;
    return cache.profiles.read(image.manifestDigest);
  }

  /** A profile that cannot be had or used is none. */
  async #published(): Promise<StartupProfile | undefined> {
    const { cache, image, signal } = this.#options;
    try {
      const encoded = await image.publishedProfile?.(MAX_PROFILE_BYTES, signal);
      if (encoded === undefined) return undefined;
      const profile = StartupProfile.decode(encoded);
      void cache.profiles.write(image.manifestDigest, encoded);
      return profile;
    } catch (error) {
      this.#log.debug(`the startup profile of ${image.name} is not used: ${(error as Error).message}`);
      return undefined;
    }
  }

  async #publish(encoded: Uint8Array): Promise<void> {
    const { image } = this.#options;
    try {
      await image.publishProfile?.(encoded, AbortSignal.timeout(PUBLISH_MS));
    } catch (error) {
      const remedy = 'log in as somebody who may push there, or set profiles = "keep"';
      this.#log.warn(
        `the startup profile of ${image.name} is not published: ${(error as Error).message}; ${remedy}`,
      );
    }
  }
}
