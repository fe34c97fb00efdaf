/**
 * The startup profile of one mount. What earlier mounts of the image have left, here or published by other hosts, is
 * replayed: blocks are fetched ahead, names and pages walked through the mount. Without any, what mounts of a related
 * image have left, or else blocks are fetched that the image itself says come first. What this one is asked for is kept.
 */
import type { BlockCache, LayerLease } from '../cache/block-cache.js';
import { ProfileRecorder } from '../cache/profile-recorder.js';
import type { StartupProfile } from '../cache/startup-profile.js';
import type { Session } from '../native/addon.js';
import type { RemoteImage } from '../source/remote-image.js';
import { type Logger, log } from '../telemetry/logger.js';
import type { ProfileUse } from './profile-use.js';
import { findRelatedProfile, inheritedProfile } from './related-profile.js';
import { fetchStartup, profileOf } from './startup-fetch.js';
import { withResolvers } from './with-resolvers.js';

/**
 * Whoever asked for the mount is told of it before the replay begins: what arrives keeps the event loop busy.
 * Milliseconds; measured: docs/BENCHMARKS.md, "When a replay begins".
 */
const REPLAY_AFTER_MS = 8;
/** A mount that ends does not wait longer for its registry. */
const PUBLISH_MS = 5000;

export interface MountProfileOptions {
  cache: BlockCache;
  image: RemoteImage;
  session: Session;
  leases: readonly LayerLease[];
  mountpoint: string;
  preload: boolean;
  /** What earlier mounts of this host have left. */
  known: Promise<StartupProfile | undefined> | undefined;
  use: Exclude<ProfileUse, 'off'>;
  /** Milliseconds until the replay. */
  after: number | undefined;
  /** Ends the replay. */
  signal: AbortSignal;
  logger: Logger | undefined;
}

export class MountProfile {
  readonly #options: MountProfileOptions;
  readonly #recorder: ProfileRecorder;
  readonly #log: Logger;
  /** diffIDs of its devices. */
  readonly #layers: readonly string[];
  readonly #begun = withResolvers<void>();
  #preloaded: StartupProfile | undefined;
  #ended: Promise<void> | undefined;

  constructor(options: MountProfileOptions) {
    this.#options = options;
    this.#log = options.logger ?? log;
    const { cache, image, session, leases, use } = options;
    this.#layers = leases.map(({ layer }) => layer.digests.diffID);
    setTimeout(() => this.replay(), options.after ?? REPLAY_AFTER_MS).unref();
    void this.#replay();
    this.#recorder = new ProfileRecorder(cache.profiles, {
      manifestDigest: image.manifestDigest,
      layers: this.#layers,
      touched: () => session.touched(),
      accesses: () => session.accesses(),
      preloaded: () => this.#preloaded,
      ...(use === 'share' && { share: (encoded: Uint8Array) => this.#publish(encoded) }),
    });
  }

  /** Now, if it has not begun. */
  replay(): void {
    this.#begun.resolve();
  }

  /** Keeps it as it is by now: for a process that is about to leave its mounts to another. */
  save(): Promise<void> {
    return this.#recorder.save();
  }

  /** Records nothing more. Resolves when all is kept; it is published meanwhile. */
  endRecording(): Promise<void> {
    void this.end();
    return this.#recorder.save();
  }

  end(): Promise<void> {
    this.#ended ??= this.#recorder.end();
    return this.#ended;
  }

  async #replay(): Promise<void> {
    const { session, mountpoint, preload, signal } = this.#options;
    const own = await profileOf(this.#options, this.#log, this.#options.known);
    const inherited = own === undefined ? await this.#inherited() : undefined;
    const profile = own?.usual() ?? inherited?.profile;
    await this.#begun.promise;
    if (signal.aborted) return;
    const fetched = fetchStartup(this.#options, profile);
    // What is walked counts as asked for: what another program wants would stay in the profile of this one.
    if (preload && profile !== undefined && inherited?.isVersion !== false) {
      this.#preloaded = profile;
      session.preload(mountpoint, profile.steps);
    }
    await fetched;
  }

  /** A profile that cannot be had or used is none. */
  async #inherited(): Promise<{ profile: StartupProfile; isVersion: boolean } | undefined> {
    const { cache, image, session, signal } = this.#options;
    try {
      const related = await findRelatedProfile(cache, image, signal);
      const profile = related && (await inheritedProfile(related.profile, session, this.#layers));
      return profile && { profile, isVersion: related.isVersion };
    } catch (error) {
      this.#log.debug(
        `no startup profile of a related image is used for ${image.name}: ${(error as Error).message}`,
      );
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
