/**
 * One repository on the disk: which blobs and manifests it has, its tags, its attributes. Nothing of HTTP.
 *
 *     repositories/<name>/_blobs/<algorithm>/<hex>            empty: the repository has the blob
 *     repositories/<name>/_manifests/<algorithm>/<hex>        JSON of a ManifestRecord: it has the manifest
 *     repositories/<name>/_tags/<tag>                         digest
 *     repositories/<name>/_referrers/<subject hex>/<hex>      JSON of a descriptor; counts while the manifest is there
 *     repositories/<name>/_attributes.json                    RepositoryAttributes
 *     repositories/<name>/_profiled.json                      digests of images: of which startup profiles came last
 *
 * Names of path components cannot begin with `_`, so repositories may lie within each other.
 */
import { stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { parseDigest, printable } from '../oci/digest.js';
import type { Descriptor } from '../oci/manifest.js';
import { OciError } from '../oci/oci-error.js';
import { isTag } from '../oci/reference.js';
import { type RepositoryAttributes, readAttributes, withDefaults, writeAttributes } from './attributes.js';
import type { BlobStorage } from './blob-storage.js';
import { type Change, type DataDirectory, isMissing, namesIn, readIfPresent } from './data-directory.js';
import type { KeyedLock } from './keyed-lock.js';

/** What a repository knows of a manifest without reading it. */
export interface ManifestRecord {
  mediaType: string;
  /** Bytes. */
  size: number;
  artifactType?: string;
  /** Digest of the manifest that this one refers to. */
  subject?: string;
}

export interface PutManifest extends ManifestRecord {
  digest: string;
  bytes: Uint8Array;
  annotations?: Record<string, string>;
}

/** So many can be deleted before an image is without the startup profile of an earlier one. */
const MAX_PROFILED = 16;

/** What ACR says of a repository. */
export interface RepositorySummary {
  manifestCount: number;
  tagCount: number;
  createdTime: Date;
  /** Of a manifest, tag or attribute, added, changed or removed. */
  lastUpdateTime: Date;
}

export class Repository {
  /** @internal `locks` are held, by name, while manifests and tags change. */
  constructor(
    readonly name: string,
    private readonly directory: string,
    private readonly data: DataDirectory,
    private readonly blobs: BlobStorage,
    private readonly locks: KeyedLock,
    private readonly defaults: Partial<RepositoryAttributes> = {},
  ) {}

  private digestPath(kind: '_blobs' | '_manifests', digest: string): string {
    const { algorithm, hex } = parseDigest(digest);
    return join(this.directory, kind, algorithm, hex);
  }

  /** True when something has ever been pushed to it. */
  async exists(): Promise<boolean> {
    return (await isPresent(join(this.directory, '_blobs'))) || isPresent(join(this.directory, '_manifests'));
  }

  /** Bytes of a blob that this repository has; otherwise undefined. */
  async blobSize(digest: string): Promise<number | undefined> {
    return (await isPresent(this.digestPath('_blobs', digest))) ? this.blobs.size(digest) : undefined;
  }

  /** All of it, which is small; undefined when the repository has it not. */
  async blob(digest: string): Promise<Uint8Array | undefined> {
    return (await isPresent(this.digestPath('_blobs', digest))) ? this.blobs.read(digest) : undefined;
  }

  /** Keeps the garbage collection from a blob that a client has been told of. */
  async touchBlob(digest: string): Promise<void> {
    const now = new Date();
    await utimes(this.digestPath('_blobs', digest), now, now).catch(() => undefined);
  }

  /** Gives the repository a blob of verified content, which lies in `file` on the disk. */
  async takeBlob(digest: string, file: string): Promise<void> {
    await this.blobs.locks.holding(digest, async () => {
      await this.data.apply([{ path: this.blobs.path(digest), from: file }, this.link(digest)]);
    });
  }

  /** Gives the repository a small blob. Throws nothing when it has it already. */
  async putBlob(digest: string, bytes: Uint8Array): Promise<void> {
    await this.blobs.locks.holding(digest, async () => {
      await this.data.apply([{ path: this.blobs.path(digest), content: bytes }, this.link(digest)]);
    });
  }

  /** Gives the repository a blob that another one has; false when it has been removed meanwhile. */
  async linkBlob(digest: string): Promise<boolean> {
    return this.blobs.locks.holding(digest, async () => {
      if ((await this.blobs.size(digest)) === undefined) return false;
      await this.data.apply([this.link(digest)]);
      return true;
    });
  }

  /** A blob counts when both its file and this are there, so it does not matter which of them comes first. */
  private link(digest: string): Change {
    return { path: this.digestPath('_blobs', digest), content: undefined };
  }

  /** False when the repository does not have the blob. */
  async deleteBlob(digest: string): Promise<boolean> {
    return this.data.remove(this.digestPath('_blobs', digest));
  }

  async manifest(digest: string): Promise<ManifestRecord | undefined> {
    const record = await readIfPresent(this.digestPath('_manifests', digest));
    return record === undefined ? undefined : (JSON.parse(record.toString()) as ManifestRecord);
  }

  /**
   * Stores a manifest, whose digest has been verified, and lets the tags point to it. `check` runs while nothing of
   * the repository can be deleted, and throws when something that the manifest needs is not there.
   */
  async putManifest(
    manifest: PutManifest,
    tags: readonly string[],
    check: () => Promise<void>,
  ): Promise<void> {
    const { digest, bytes, annotations, mediaType, size, artifactType, subject } = manifest;
    const record: ManifestRecord = {
      mediaType,
      size,
      ...(artifactType === undefined ? {} : { artifactType }),
      ...(subject === undefined ? {} : { subject }),
    };
    await this.locks.holding(this.name, async () => {
      await check();
      const changes: Change[] = [{ path: this.blobs.path(digest), content: bytes }];
      if (subject !== undefined) {
        const referrer: Descriptor = {
          mediaType,
          digest,
          size,
          ...(annotations === undefined ? {} : { annotations }),
          ...(artifactType === undefined ? {} : { artifactType }),
        };
        changes.push({ path: this.referrerPath(subject, digest), content: encode(referrer) });
      }
      changes.push({ path: this.digestPath('_manifests', digest), content: encode(record) });
      const content = Buffer.from(digest);
      await this.blobs.locks.holding(digest, async () => {
        await this.data.apply(changes);
        // A tag that is moved loses what it stood for, so the disk must have the manifest first.
        await this.data.apply(tags.map((tag) => ({ path: this.tagPath(tag), content })));
      });
    });
  }

  /** Removes a manifest and the tags that point to it; false when it is not there. */
  async deleteManifest(digest: string): Promise<boolean> {
    return this.locks.holding(this.name, async () => {
      const record = await this.manifest(digest);
      if (record === undefined) return false;
      for (const tag of await this.tags()) {
        if ((await this.resolve(tag)) === digest) await this.data.remove(this.tagPath(tag));
      }
      await this.data.remove(this.digestPath('_manifests', digest));
      if (record.subject !== undefined) await this.data.remove(this.referrerPath(record.subject, digest));
      return true;
    });
  }

  private tagPath(tag: string): string {
    if (!isTag(tag)) throw new OciError('INVALID_REFERENCE', `${printable(tag)} is not a tag`);
    return join(this.directory, '_tags', tag);
  }

  /** The digest that a tag stands for. */
  async resolve(tag: string): Promise<string | undefined> {
    return (await readIfPresent(this.tagPath(tag)))?.toString();
  }

  /** Sorted by bytes. */
  async tags(): Promise<string[]> {
    return (await namesIn(join(this.directory, '_tags'))).sort();
  }

  async deleteTag(tag: string): Promise<boolean> {
    return this.locks.holding(this.name, () => this.data.remove(this.tagPath(tag)));
  }

  private referrerPath(subject: string, digest: string): string {
    return join(this.directory, '_referrers', parseDigest(subject).hex, parseDigest(digest).hex);
  }

  /** Descriptors of the manifests whose subject is this digest, sorted by digest; those after `last`, if given. */
  async *referrers(subject: string, last = ''): AsyncGenerator<Descriptor, void, void> {
    const directory = join(this.directory, '_referrers', parseDigest(subject).hex);
    for (const hex of (await namesIn(directory)).sort()) {
      if (hex <= last) continue;
      const content = await readIfPresent(join(directory, hex));
      if (content === undefined) continue;
      const descriptor = JSON.parse(content.toString()) as Descriptor;
      // The record is written last and removed first, so it decides.
      if ((await this.manifest(descriptor.digest))?.subject === subject) yield descriptor;
    }
  }

  /** Digests of all manifests or blobs that the repository has. */
  async *digests(kind: '_blobs' | '_manifests'): AsyncGenerator<string, void, void> {
    for (const algorithm of await namesIn(join(this.directory, kind))) {
      for (const hex of await namesIn(join(this.directory, kind, algorithm))) yield `${algorithm}:${hex}`;
    }
  }

  /** True while it has a manifest. */
  async hasManifests(): Promise<boolean> {
    for await (const _ of this.digests('_manifests')) return true;
    return false;
  }

  /** When the repository got the blob or a client was last told of it, in milliseconds. */
  async blobTime(digest: string): Promise<number | undefined> {
    return (await stat(this.digestPath('_blobs', digest)).catch(() => undefined))?.mtimeMs;
  }

  /** True when it has the digest as a blob or as a manifest. */
  async has(digest: string): Promise<boolean> {
    return (
      (await isPresent(this.digestPath('_blobs', digest))) || isPresent(this.digestPath('_manifests', digest))
    );
  }

  /** Runs `action` while no manifest, tag or attribute of the repository changes. */
  exclusively<T>(action: () => Promise<T>): Promise<T> {
    return this.locks.holding(this.name, action);
  }

  /** Undefined when nothing has ever been pushed to it, and none of its attributes changed. */
  async summary(): Promise<RepositorySummary | undefined> {
    const directory = await stat(this.directory).catch(() => undefined);
    if (directory === undefined) return undefined;
    // A change of an entry is one of its directory.
    const folders = ['_tags', '_manifests/sha256', '_manifests/sha512', '_attributes.json'];
    const found = await Promise.all(
      folders.map((folder) => stat(join(this.directory, folder)).catch(() => undefined)),
    );
    const times = found.flatMap((status) => status?.mtimeMs ?? []);
    if (times.length === 0 && !(await this.exists())) return undefined;
    let manifestCount = 0;
    for await (const _ of this.digests('_manifests')) manifestCount++;
    const lastUpdate = Math.max(...times, directory.birthtimeMs);
    // Some file systems do not know when a file was made.
    const created = directory.birthtimeMs || Math.min(...times, lastUpdate);
    return {
      manifestCount,
      tagCount: (await this.tags()).length,
      createdTime: new Date(created),
      lastUpdateTime: new Date(lastUpdate),
    };
  }

  private get profiledPath(): string {
    return join(this.directory, '_profiled.json');
  }

  /** Digests of the images that startup profiles were published of last, the last one first. They may be gone by now. */
  async profiled(): Promise<string[]> {
    const content = await readIfPresent(this.profiledPath);
    return content === undefined ? [] : (JSON.parse(content.toString()) as string[]);
  }

  /** A startup profile of the image has been published. */
  async addProfiled(digest: string): Promise<void> {
    await this.locks.holding(this.name, async () => {
      const known = await this.profiled();
      if (known[0] === digest) return;
      const others = known.filter((other) => other !== digest);
      await this.data.write(this.profiledPath, encode([digest, ...others].slice(0, MAX_PROFILED)));
    });
  }

  private get attributesPath(): string {
    return join(this.directory, '_attributes.json');
  }

  async attributes(): Promise<RepositoryAttributes> {
    return withDefaults(await readAttributes(this.attributesPath), this.defaults);
  }

  /** Changes the attributes that are given and returns all of them. */
  async setAttributes(changes: Partial<RepositoryAttributes>): Promise<RepositoryAttributes> {
    return this.locks.holding(this.name, async () => {
      const attributes = { ...(await readAttributes(this.attributesPath)), ...changes };
      await writeAttributes(this.data, this.attributesPath, attributes);
      return withDefaults(attributes, this.defaults);
    });
  }
}

/** False of a file or directory that is not there. */
async function isPresent(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

function encode(value: object): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}
