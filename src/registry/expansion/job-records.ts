/**
 * What is known on the disk of each image's expansion, one small file per image that is replaced as a whole:
 *
 *     queue/pending/<escaped repository>/<algorithm>-<hex>.json     to be done, whatever the other two say
 *     queue/expanded/<escaped repository>/<algorithm>-<hex>.json    done
 *     queue/failed/<escaped repository>/<algorithm>-<hex>.json      not to be tried again by itself
 *
 * A file changes its place by being written to the new one before the old one is removed, so a process that dies
 * between leaves both, and the image is gone through again, to no harm.
 */
import { basename, join } from 'node:path';
import { parseDigest } from '../../oci/digest.js';
import type { Descriptor, Platform } from '../../oci/manifest.js';
import { log } from '../../telemetry/logger.js';
import { type DataDirectory, namesIn, readIfPresent } from '../data-directory.js';
import { escapedName, repositoryOf } from './share-name.js';

const VERSION = 1;

export type RecordKind = 'pending' | 'expanded' | 'failed';

/** A layer of an image: its blob and what it is a blob of. */
export interface RecordedLayer {
  digest: string;
  diffID: string;
  /** Bytes of the blob. */
  total: number;
  /** Bytes of the layer VHD. */
  bytes?: number;
  /** Why it has failed. */
  reason?: string;
}

export interface JobRecord {
  /** Under which the image is known, or is to be, each with the digest that it stood for: the image's or an index's. */
  tags: Record<string, string>;
  /** When it was enqueued, in milliseconds since 1970. */
  time: number;
  /** Why it has failed. */
  reason?: string;
  layers?: RecordedLayer[];
  /** Of an image that is expanded; older records lack it. */
  platform?: Platform;
  artifact?: Descriptor;
}

export interface JobName {
  repository: string;
  digest: string;
}

export class JobRecords {
  constructor(private readonly data: DataDirectory) {}

  private directory(kind: RecordKind, repository = ''): string {
    return this.data.join('queue', kind, escapedName(repository));
  }

  private path(kind: RecordKind, { repository, digest }: JobName): string {
    const { algorithm, hex } = parseDigest(digest);
    return join(this.directory(kind, repository), `${algorithm}-${hex}.json`);
  }

  async read(kind: RecordKind, name: JobName): Promise<JobRecord | undefined> {
    const path = this.path(kind, name);
    const bytes = await readIfPresent(path);
    if (bytes === undefined) return undefined;
    const record = decode(bytes);
    if (record === undefined) log.error('a record of the expansion queue is unreadable', { path });
    return record;
  }

  async write(kind: RecordKind, name: JobName, record: JobRecord): Promise<void> {
    const bytes = Buffer.from(`${JSON.stringify({ version: VERSION, ...record })}\n`);
    await this.data.write(this.path(kind, name), bytes);
  }

  async remove(kind: RecordKind, name: JobName): Promise<void> {
    await this.data.remove(this.path(kind, name));
  }

  /** Repositories of which there is a record. */
  async repositories(kind: RecordKind): Promise<string[]> {
    return (await namesIn(this.directory(kind))).sort().map(repositoryOf);
  }

  /** Digests of the images of a repository of which there is a record. */
  async digests(kind: RecordKind, repository: string): Promise<string[]> {
    const files = (await namesIn(this.directory(kind, repository))).sort();
    return files
      .filter((file) => file.endsWith('.json'))
      .map((file) => basename(file, '.json').replace('-', ':'));
  }
}

/** Only this program writes these files, so more than the version need not be checked. */
function decode(bytes: Uint8Array): JobRecord | undefined {
  try {
    const { version, ...record } = JSON.parse(Buffer.from(bytes).toString()) as JobRecord & {
      version?: unknown;
    };
    return version === VERSION ? record : undefined;
  } catch {
    return undefined;
  }
}
