/**
 * Which blob is which layer: `queue/verified/<algorithm>/<hex of the blob>` holds the diffID that its content was
 * found to have. The diffIDs of an image config are what a client says; only a blob that has been read proves that a
 * repository with this blob may have that layer.
 */
import { parseDigest } from '../../oci/digest.js';
import { type DataDirectory, namesIn, readIfPresent } from '../data-directory.js';

export class VerifiedBlobs {
  constructor(private readonly data: DataDirectory) {}

  private path(digest: string): string {
    const { algorithm, hex } = parseDigest(digest);
    return this.data.join('queue', 'verified', algorithm, hex);
  }

  async diffID(digest: string): Promise<string | undefined> {
    return (await readIfPresent(this.path(digest)))?.toString();
  }

  async record(digest: string, diffID: string): Promise<void> {
    await this.data.write(this.path(digest), Buffer.from(diffID));
  }

  /** Drops what is known of layers that are not wanted; it is found out again when it is needed. */
  async retain(isWanted: (diffID: string) => Promise<boolean>): Promise<void> {
    for (const algorithm of await namesIn(this.data.join('queue', 'verified'))) {
      for (const hex of await namesIn(this.data.join('queue', 'verified', algorithm))) {
        const digest = `${algorithm}:${hex}`;
        const diffID = await this.diffID(digest);
        if (diffID !== undefined && !(await isWanted(diffID))) await this.data.remove(this.path(digest));
      }
    }
  }
}
