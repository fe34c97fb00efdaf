/**
 * What a daemon has to know of the mounts of the one before it:
 *
 *   RUN/daemon/state.json     version, mounts; written whole, fsynced and renamed at every change
 *   RUN/daemon/secrets.json   what of the requests holds passwords, by mount
 *   RUN/daemon/lock           held by the daemon that owns both
 *
 * A record without `image` is of a mount that was being made; one with `uses` is of a container, and has no descriptor.
 */
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ProcessConfig } from '../oci/image-config.js';
import { type Logger, log } from '../telemetry/logger.js';
import { MOUNT_ID, type MountInfo, type MountRequest } from './api.js';
import { DaemonError } from './daemon-error.js';

export const STATE_VERSION = 1;
const MAX_STATE_BYTES = 64 << 20;

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
  #writing: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  /** A file that cannot be understood is put aside: what is mounted then is found in the mount table. */
  static async open(directory: string, logger: Logger = log): Promise<StateFile> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const state = new StateFile(directory);
    const path = join(directory, 'state.json');
    try {
      const text = await readBounded(path);
      if (text === undefined) return state;
      const secrets = JSON.parse((await readBounded(join(directory, 'secrets.json'))) ?? '{}') as Record<
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

  /** Resolves when all changes made up to now are on the disk; changes made while one write runs share the next. */
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
    await this.#replace('secrets.json', secrets, Object.keys(secrets).length === 0);
    await this.#replace('state.json', content, false);
  }

  async #replace(name: string, content: object, absent: boolean): Promise<void> {
    const path = join(this.#directory, name);
    if (absent) return rm(path, { force: true });
    const handle = await open(`${path}.new`, 'w', 0o600);
    try {
      await handle.writeFile(JSON.stringify(content));
      await handle.datasync();
    } finally {
      await handle.close();
    }
    await rename(`${path}.new`, path);
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
