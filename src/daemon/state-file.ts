/**
 * What a daemon has to know of the mounts of the one before it:
 *
 *   RUN/daemon/state.json     version, mounts; written whole and renamed at every change
 *   RUN/daemon/secrets.json   what of the requests holds passwords, by mount
 *   RUN/daemon/lock           held by the daemon that owns both
 *
 * A change is in the file before the mount is; a daemon that is killed has a successor that finds it there. Only a power
 * cut could undo that, and it ends the mounts as well: so the files are fsynced right after, and nobody waits for it.
 *
 * A record without `image` is of a mount that was being made; one with `uses` is of a container, and has no descriptor.
 */
import { mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ProcessConfig } from '../oci/image-config.js';
import { type Logger, log } from '../telemetry/logger.js';
import { MOUNT_ID, type MountInfo, type MountRequest } from './api.js';
import { DaemonError } from './daemon-error.js';

export const STATE_VERSION = 1;
const MAX_STATE_BYTES = 64 << 20;
const STATE = 'state.json';
const SECRETS = 'secrets.json';

export interface BlobRecord {
  digest: string;
  size: number;
}

/** All that is needed to serve an image whose documents are in the cache. */
export interface ImageRecord {
  name: string;
  manifestDigest: string;
  config: ProcessConfig;
  index: BlobRecord;
  /** Block digests of the devices, in the order of the image index. */
  devices: BlobRecord[];
  /** Where the block digests are in one blob. */
  digestSet?: BlobRecord;
}

export interface MountRecord {
  id: string;
  /** Absolute, without symbolic links. */
  mountpoint: string;
  request: MountRequest;
  createdAt: number;
  image?: ImageRecord;
  sources?: MountInfo['sources'];
  /** Unmounted, and served as long as another mount namespace has a copy. */
  isElsewhere?: boolean;
  /** Nobody's own: containers use it (image-mounts.ts). */
  isShared?: boolean;
  /** Id of the shared mount that is bound to the mount point (container-uses.ts). */
  uses?: string;
}

interface Content {
  version: number;
  mounts: MountRecord[];
}

/** Of a request, what may hold a password. */
type Secret = Pick<MountRequest, 'store' | 'environment'>;

export class StateFile {
  readonly mounts = new Map<string, MountRecord>();
  readonly #directory: string;
  readonly #log: Logger;
  /** What the files hold that this process has written, by name. */
  readonly #written = new Map<string, string>();
  #writing: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  readonly #unsynced = new Set<string>();
  #isSyncing = false;

  private constructor(directory: string, logger: Logger) {
    this.#directory = directory;
    this.#log = logger;
  }

  /** A file that cannot be understood is put aside: what is mounted then is found in the mount table. */
  static async open(directory: string, logger: Logger = log): Promise<StateFile> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const state = new StateFile(directory, logger);
    const path = join(directory, STATE);
    try {
      const text = await readBounded(path);
      if (text === undefined) return state;
      const secrets = JSON.parse((await readBounded(join(directory, SECRETS))) ?? '{}') as Record<
        string,
        Secret
      >;
      state.#load(JSON.parse(text) as Content, secrets);
    } catch (error) {
      state.mounts.clear();
      await rename(path, `${path}.bad`).catch(() => undefined);
      logger.error(`${path} cannot be used and is put aside as state.json.bad`, { error: error as Error });
    }
    return state;
  }

  #load({ version, mounts }: Content, secrets: Record<string, Secret>): void {
    if (version !== STATE_VERSION)
      throw new DaemonError('STATE', `version ${version} is not ${STATE_VERSION}`);
    for (const record of mounts) {
      if (!MOUNT_ID.test(record.id) || !record.mountpoint.startsWith('/')) {
        throw new DaemonError('STATE', `a record of ${JSON.stringify(record.id)} is malformed`);
      }
      this.mounts.set(record.id, { ...record, request: { ...record.request, ...secrets[record.id] } });
    }
  }

  /** Resolves when the files have all changes made up to now; changes made while one write runs share the next. */
  save(): Promise<void> {
    if (this.#writing === undefined) return this.#begin();
    this.#next ??= this.#writing.catch(() => undefined).then(() => this.#begin());
    return this.#next;
  }

  #begin(): Promise<void> {
    this.#next = undefined;
    const writing = this.#write().finally(() => {
      if (this.#writing === writing) this.#writing = undefined;
    });
    this.#writing = writing;
    return writing;
  }

  async #write(): Promise<void> {
    const secrets: Record<string, Secret> = {};
    const mounts = [...this.mounts.values()].map((record) => {
      const secret = secretOf(record.request);
      if (secret === undefined) return record;
      secrets[record.id] = secret;
      return { ...record, request: withoutSecret(record.request) };
    });
    const content: Content = { version: STATE_VERSION, mounts };
    // Secrets first: a mount that needs one is never without.
    await this.#replace(SECRETS, Object.keys(secrets).length === 0 ? undefined : JSON.stringify(secrets));
    await this.#replace(STATE, JSON.stringify(content));
    if (!this.#isSyncing) void this.#sync();
  }

  async #replace(name: string, text: string | undefined): Promise<void> {
    const path = join(this.#directory, name);
    if (text !== undefined && this.#written.get(name) === text) return;
    this.#written.delete(name);
    if (text === undefined) return rm(path, { force: true });
    await writeFile(`${path}.new`, text, { mode: 0o600 });
    await rename(`${path}.new`, path);
    this.#written.set(name, text);
    this.#unsynced.add(name);
  }

  /** Never rejects. What is written meanwhile is synced as well. */
  async #sync(): Promise<void> {
    this.#isSyncing = true;
    for (const name of this.#unsynced) {
      this.#unsynced.delete(name);
      const path = join(this.#directory, name);
      try {
        const handle = await open(path, 'r');
        await handle.datasync().finally(() => handle.close());
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
        this.#log.error(`${path} cannot be synced`, { error: error as Error });
      }
    }
    this.#isSyncing = false;
  }
}

function secretOf({ store, environment }: MountRequest): Secret | undefined {
  const inUrl = store !== undefined && /^[a-z][a-z0-9+.-]*:\/\/\S*@/i.test(store);
  if (!inUrl && environment === undefined) return undefined;
  return { ...(inUrl && { store }), ...(environment !== undefined && { environment }) };
}

function withoutSecret({ environment: _, ...request }: MountRequest): MountRequest {
  const { store } = request;
  return store === undefined ? request : { ...request, store: store.replace(/:\/\/\S*@/, '://') };
}

async function readBounded(path: string): Promise<string | undefined> {
  try {
    const bytes = await readFile(path);
    if (bytes.length > MAX_STATE_BYTES) throw new DaemonError('STATE', `it has ${bytes.length} bytes`);
    return bytes.toString('utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
