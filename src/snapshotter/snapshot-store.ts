/**
 * All snapshots of a root directory, each with a directory of its own:
 *
 *   ROOT/snapshots/<id>/snapshot.json   what it is
 *   ROOT/snapshots/<id>/fs              what it adds to its parent
 *   ROOT/snapshots/<id>/work            of overlayfs, for active ones
 *   ROOT/snapshots/new-…, removed-…     in the making, and on its way out
 *
 * A directory gets and loses its number by a rename, so a snapshot is there whole or not at all, whenever the process
 * is killed. What a snapshot is changes only by one rename of its record. One process uses a root at a time.
 */
import { mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { addon } from '../native/addon.js';
import { syncDirectory, writeDurably } from '../oci/durable-file.js';
import { type Logger, log } from '../telemetry/logger.js';
import type { Labels, RemoteLayer, Snapshot, SnapshotInfo, Usage } from './snapshot.js';
import { SnapshotError } from './snapshot-error.js';
import { decodeSnapshot, encodeSnapshot } from './snapshot-record.js';

const RECORD = 'snapshot.json';
/** Bytes of a key or name; containerd's are about a hundred. */
const MAX_NAME_BYTES = 4096;
/** Bytes of one label, key and value: containerd's own limit. */
const MAX_LABEL_BYTES = 4096;
const MAX_LABELS = 1024;

export interface NewSnapshot {
  kind: 'view' | 'active' | 'committed';
  name: string;
  parent: string;
  labels: Labels;
  remote?: RemoteLayer;
}

export class SnapshotStore {
  readonly #directory: string;
  readonly #log: Logger;
  readonly #byName = new Map<string, Snapshot>();
  readonly #children = new Map<string, number>();
  #nextID = 1;
  /** The end of the last change: changes happen one after the other. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(root: string, logger: Logger) {
    this.#directory = join(root, 'snapshots');
    this.#log = logger;
  }

  /** Makes the directory if it is missing, and removes what a killed process left. Throws what the disk refuses. */
  static async open(root: string, logger: Logger = log): Promise<SnapshotStore> {
    const store = new SnapshotStore(root, logger);
    await mkdir(store.#directory, { recursive: true, mode: 0o700 });
    for (const entry of await readdir(store.#directory)) await store.#load(entry);
    await store.cleanUp();
    return store;
  }

  /** Throws SnapshotError NOT_FOUND. */
  get(name: string): Snapshot {
    const found = this.#byName.get(name);
    if (found === undefined) throw new SnapshotError('NOT_FOUND', `snapshot ${name} does not exist`);
    return found;
  }

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  all(): IterableIterator<Snapshot> {
    return this.#byName.values();
  }

  /** The ancestors of a snapshot, its parent first. */
  ancestors(snapshot: Snapshot): Snapshot[] {
    const ancestors: Snapshot[] = [];
    for (let { parent } = snapshot; parent !== ''; ) {
      const found = this.get(parent);
      ancestors.push(found);
      parent = found.parent;
    }
    return ancestors;
  }

  directoryOf({ id }: Snapshot): string {
    return join(this.#directory, String(id));
  }

  /** `fill` makes the contents of the new directory. Throws ALREADY_EXISTS, NOT_FOUND and INVALID_ARGUMENT. */
  create(request: NewSnapshot, fill: (directory: string) => Promise<void>): Promise<Snapshot> {
    return this.#exclusively(async () => {
      const { name, parent, labels, kind, remote } = request;
      checkName(name);
      checkLabels(labels);
      this.#checkFree(name);
      if (parent !== '') this.#checkParent(parent);
      const now = addon.realTime();
      const times = { createdAt: now, updatedAt: now };
      const id = this.#nextID;
      const snapshot = { id, name, parent, kind, labels: { ...labels }, ...times, usage: undefined, remote };
      const directory = await mkdtemp(join(this.#directory, 'new-'));
      try {
        await fill(directory);
        await this.#write(snapshot, directory);
        await rename(directory, this.directoryOf(snapshot));
      } catch (error) {
        await rm(directory, { recursive: true, force: true });
        throw error;
      }
      this.#nextID += 1;
      this.#add(snapshot);
      await syncDirectory(this.#directory);
      return snapshot;
    });
  }

  /**
   * Turns the active snapshot `key` into the committed one `name`; its labels are replaced. `parent`, when it is not
   * empty, becomes the parent of a snapshot that has none. Throws as create does, and FAILED_PRECONDITION.
   */
  commit(key: string, name: string, labels: Labels, usage: Usage, parent = ''): Promise<Snapshot> {
    return this.#exclusively(async () => {
      checkName(name);
      checkLabels(labels);
      this.#checkFree(name);
      const active = this.get(key);
      if (active.kind !== 'active') {
        throw new SnapshotError('FAILED_PRECONDITION', `snapshot ${key} is ${active.kind}, not active`);
      }
      if (parent !== '' && parent !== active.parent) {
        if (active.parent !== '') {
          throw new SnapshotError('INVALID_ARGUMENT', `snapshot ${key} has another parent than ${parent}`);
        }
        this.#checkParent(parent);
      }
      const now = addon.realTime();
      const committed: Snapshot = {
        ...active,
        name,
        parent: parent || active.parent,
        kind: 'committed',
        labels: { ...labels },
        createdAt: now,
        updatedAt: now,
        usage,
      };
      await this.#write(committed);
      this.#forget(active);
      this.#add(committed);
      return committed;
    });
  }

  /**
   * Changes labels: all of them, or those that `paths` name (`labels`, `labels.KEY`). An empty label is removed.
   * Throws NOT_FOUND and INVALID_ARGUMENT.
   */
  update(
    { name, labels }: Pick<SnapshotInfo, 'name' | 'labels'>,
    paths: readonly string[],
  ): Promise<Snapshot> {
    return this.#exclusively(async () => {
      const found = this.get(name);
      const changed = new Map(Object.entries(paths.length === 0 ? labels : found.labels));
      for (const path of paths) {
        if (path === 'labels') {
          changed.clear();
          for (const [key, value] of Object.entries(labels)) changed.set(key, value);
        } else if (path.startsWith('labels.')) {
          const key = path.slice('labels.'.length);
          changed.set(key, Object.hasOwn(labels, key) ? (labels[key] ?? '') : '');
        } else {
          throw new SnapshotError('INVALID_ARGUMENT', `${path} of snapshot ${name} cannot be updated`);
        }
      }
      for (const [key, value] of changed) if (value === '') changed.delete(key);
      const updated = { ...found, labels: Object.fromEntries(changed), updatedAt: addon.realTime() };
      checkLabels(updated.labels);
      await this.#write(updated);
      this.#byName.set(name, updated);
      return updated;
    });
  }

  /** Throws NOT_FOUND, and FAILED_PRECONDITION for a parent. `before` runs when nothing prevents the removal. */
  remove(name: string, before: (snapshot: Snapshot) => Promise<void> = async () => {}): Promise<void> {
    return this.#exclusively(async () => {
      const snapshot = this.get(name);
      if ((this.#children.get(name) ?? 0) > 0) {
        throw new SnapshotError('FAILED_PRECONDITION', `cannot remove snapshot ${name}: it has children`);
      }
      await before(snapshot);
      const doomed = join(this.#directory, `removed-${snapshot.id}-${Date.now()}`);
      await rename(this.directoryOf(snapshot), doomed);
      this.#forget(snapshot);
      await syncDirectory(this.#directory);
      await this.#discard(doomed);
    });
  }

  /** Removes directories that are no snapshots. */
  cleanUp(): Promise<void> {
    return this.#exclusively(async () => {
      const known = new Set([...this.#byName.values()].map(({ id }) => String(id)));
      for (const entry of await readdir(this.#directory)) {
        if (!known.has(entry)) await this.#discard(join(this.#directory, entry));
      }
    });
  }

  /** A directory that is still mounted somewhere cannot go now; the next cleanup tries again. */
  async #discard(path: string): Promise<void> {
    await rm(path, { recursive: true, force: true }).catch((error: Error) => {
      this.#log.warn(`${path} cannot be removed now: ${error.message}`);
    });
  }

  async #load(entry: string): Promise<void> {
    if (!/^[0-9]{1,15}$/.test(entry)) return;
    this.#nextID = Math.max(this.#nextID, Number(entry) + 1);
    const path = join(this.#directory, entry, RECORD);
    let snapshot: Snapshot;
    try {
      snapshot = decodeSnapshot(await readFile(path), path);
    } catch (error) {
      // Left where it is: nobody can say what it was, and whoever knows may mend it.
      await rename(
        join(this.#directory, entry),
        join(this.#directory, '..', `unreadable-${entry}-${Date.now()}`),
      );
      this.#log.error(`snapshot ${entry} is lost, its directory is set aside: ${(error as Error).message}`);
      return;
    }
    if (String(snapshot.id) === entry && !this.#byName.has(snapshot.name)) this.#add(snapshot);
  }

  #add(snapshot: Snapshot): void {
    this.#byName.set(snapshot.name, snapshot);
    if (snapshot.parent !== '') {
      this.#children.set(snapshot.parent, (this.#children.get(snapshot.parent) ?? 0) + 1);
    }
  }

  #forget(snapshot: Snapshot): void {
    this.#byName.delete(snapshot.name);
    const left = (this.#children.get(snapshot.parent) ?? 0) - 1;
    if (left > 0) this.#children.set(snapshot.parent, left);
    else this.#children.delete(snapshot.parent);
  }

  async #write(snapshot: Snapshot, directory = this.directoryOf(snapshot)): Promise<void> {
    await writeDurably(join(directory, RECORD), encodeSnapshot(snapshot));
  }

  #checkFree(name: string): void {
    if (this.has(name)) throw new SnapshotError('ALREADY_EXISTS', `snapshot ${name} exists already`);
  }

  #checkParent(name: string): void {
    const { kind } = this.get(name);
    if (kind !== 'committed') {
      throw new SnapshotError('INVALID_ARGUMENT', `parent ${name} is ${kind}, not committed`);
    }
  }

  async #exclusively<T>(action: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(action);
    this.#last = turn.catch(() => undefined);
    return await turn;
  }
}

function checkName(name: string): void {
  if (name === '' || Buffer.byteLength(name) > MAX_NAME_BYTES) {
    throw new SnapshotError('INVALID_ARGUMENT', `a snapshot needs a name of 1 to ${MAX_NAME_BYTES} bytes`);
  }
}

function checkLabels(labels: Labels): void {
  const entries = Object.entries(labels);
  if (entries.length > MAX_LABELS) {
    throw new SnapshotError('INVALID_ARGUMENT', `more than ${MAX_LABELS} labels`);
  }
  for (const [key, value] of entries) {
    if (Buffer.byteLength(key) + Buffer.byteLength(value) > MAX_LABEL_BYTES) {
      const name = key.slice(0, 64);
      throw new SnapshotError(
        'INVALID_ARGUMENT',
        `label ${name}: key and value exceed ${MAX_LABEL_BYTES} bytes`,
      );
    }
  }
}
