/** The stores of all repositories, `shares/<escaped name>/`, and what of the registry's store they use. */
import type { Store } from '../../image/store.js';
import { type DataDirectory, namesIn } from '../data-directory.js';
import { KeyedLock } from '../keyed-lock.js';
import type { JobRecords } from './job-records.js';
import { Share } from './share.js';
import { escapedName, repositoryOf } from './share-name.js';

/** An image that is being published. */
interface Publication {
  digest: string;
  diffIDs: readonly string[];
}

export class Shares {
  /** Held, by repository, while links are made and removed. */
  private readonly locks = new KeyedLock();
  private readonly publications = new Map<string, Set<Publication>>();
  /** Passes of `retain` that have not begun, by repository. */
  private readonly passes = new Map<string, Promise<void>>();

  constructor(
    private readonly data: DataDirectory,
    private readonly store: Store,
    private readonly records: JobRecords,
  ) {}

  path(repository: string): string {
    return this.data.join('shares', escapedName(repository));
  }

  /** Repositories that have a store. */
  async repositories(): Promise<string[]> {
    return (await namesIn(this.data.join('shares'))).map(repositoryOf);
  }

  /**
   * Runs `action` with the repository's store, which has the layers. They stay until it has ended; then they stay if
   * the image has a record as expanded.
   */
  async publishing<T>(
    repository: string,
    publication: Publication,
    action: (share: Share) => Promise<T>,
  ): Promise<T> {
    const current = this.publications.get(repository) ?? new Set();
    this.publications.set(repository, current);
    try {
      const share = await this.locks.holding(repository, async () => {
        current.add(publication);
        const opened = await Share.open(this.path(repository));
        await opened.link(this.store, publication.diffIDs);
        return opened;
      });
      return await action(share);
    } finally {
      current.delete(publication);
      if (current.size === 0 && this.publications.get(repository) === current)
        this.publications.delete(repository);
    }
  }

  async removeName(repository: string, name: string): Promise<void> {
    await this.locks.holding(repository, async () => {
      await (await Share.open(this.path(repository))).removeName(name);
    });
  }

  /** Takes out of the repository's store what none of its expanded images uses. */
  async retain(repository: string): Promise<void> {
    let pass = this.passes.get(repository);
    if (pass === undefined) {
      pass = this.locks.holding(repository, () => {
        this.passes.delete(repository);
        return this.retainNow(repository);
      });
      this.passes.set(repository, pass);
    }
    await pass;
  }

  private async retainNow(repository: string): Promise<void> {
    // An image that is published while this runs was in the first list or is in the second.
    const publications = [...(this.publications.get(repository) ?? [])];
    const images = new Set(publications.map(({ digest }) => digest));
    const layers = new Set(publications.flatMap(({ diffIDs }) => diffIDs));
    for (const digest of await this.records.digests('expanded', repository)) {
      const record = await this.records.read('expanded', { repository, digest });
      if (record === undefined) continue;
      images.add(digest);
      for (const { diffID } of record.layers ?? []) layers.add(diffID);
    }
    const share = await Share.open(this.path(repository));
    await share.retain(
      (digest) => images.has(digest),
      (diffID) => layers.has(diffID),
      { removeBlobs: publications.length === 0 },
    );
  }
}
