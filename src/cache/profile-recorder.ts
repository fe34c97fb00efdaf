/**
 * Keeps the startup profile of one mount: when what it runs has just started, when its start is over, and at its end,
 * so that a process that is killed loses little. All of that is one run.
 */
import type { Access, Touch } from '../native/addon.js';
import type { AddedRun, ProfileStore } from './profile-store.js';
import { STARTUP_MS, StartupProfile } from './startup-profile.js';

/** After the first READ, in milliseconds: most starts are over. */
const FIRST_SAVE_MS = 8000;
/** Between looks for a first READ: the pause doubles, since a mount that is idle shall cost nothing. */
const FIRST_LOOK_MS = 8000;
const LONGEST_LOOK_MS = 300_000;

export interface RecordedMount {
  manifestDigest: string;
  /** diffIDs of its devices. */
  layers: readonly string[];
  touched(): Touch[];
  accesses(): Access[];
  /** What was walked through the mount ahead, if anything was. */
  preloaded(): StartupProfile | undefined;
  /** Told the profile of the image, this run included, when the start is over. Never rejects. */
  share?(encoded: Uint8Array): Promise<void>;
}

export class ProfileRecorder {
  readonly #store: ProfileStore;
  readonly #mount: RecordedMount;
  readonly #begin = performance.now();
  #timer: NodeJS.Timeout | undefined;
  #look = FIRST_LOOK_MS;
  #saving: Promise<void> = Promise.resolve();
  #added: AddedRun | undefined;
  #shared: Uint8Array | undefined;
  #size = 0;
  #over = false;

  constructor(store: ProfileStore, mount: RecordedMount) {
    this.#store = store;
    this.#mount = mount;
    this.#later(FIRST_LOOK_MS);
  }

  /** Keeps what has been read until now, or until the end. Never rejects. */
  save(): Promise<void> {
    if (!this.#over) this.#saving = this.#saving.then(() => this.#save());
    return this.#saving;
  }

  /** Keeps it for the last time, and shares it. Never rejects. */
  async end(): Promise<void> {
    const saved = this.save();
    this.#over = true;
    clearTimeout(this.#timer);
    await saved;
    await this.#share();
  }

  async #share(): Promise<void> {
    const encoded = this.#added?.encoded;
    if (encoded === undefined || encoded === this.#shared) return;
    this.#shared = encoded;
    await this.#mount.share?.(encoded);
  }

  async #save(): Promise<void> {
    const { layers, manifestDigest } = this.#mount;
    const seen = StartupProfile.record(this.#mount.touched(), layers, this.#mount.accesses());
    if (seen.size === this.#size) return;
    const isFirst = this.#size === 0;
    this.#size = seen.size;
    // A run that others have been merged with since stays as it is.
    if (!isFirst && this.#added === undefined) return;
    const preloaded = this.#mount.preloaded();
    const run = preloaded === undefined ? seen : seen.withReplayed(preloaded);
    this.#added = await this.#store.add(manifestDigest, run, this.#added);
  }

  #later(delay: number): void {
    if (this.#over) return;
    this.#timer = setTimeout(() => void this.#lookForStart(), delay).unref();
  }

  async #lookForStart(): Promise<void> {
    const [first] = this.#mount.accesses();
    if (first === undefined) {
      this.#look = Math.min(LONGEST_LOOK_MS, this.#look * 2);
      return this.#later(this.#look);
    }
    const since = performance.now() - this.#begin - first.time;
    if (since < FIRST_SAVE_MS) return this.#later(FIRST_SAVE_MS - since);
    await this.save();
    if (since <= STARTUP_MS) return this.#later(STARTUP_MS - since + 100);
    await this.#share();
  }
}
