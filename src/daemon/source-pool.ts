/** The sources of stores, shared by all mounts that read from the same store with the same credentials. */
import type { StoreLease } from '../mount/open-image.js';
import type { Source } from '../source/source.js';
import type { ImageOrder } from './api.js';

interface Shared {
  source: Promise<Source>;
  users: number;
}

export class SourcePool {
  readonly #shared = new Map<string, Shared>();

  /** Contacts nobody. Throws what openSource throws. */
  async open(order: ImageOrder & { store: string }): Promise<StoreLease> {
    const { store, credentials, environment } = order;
    const key = JSON.stringify([store, credentials, environment]);
    const shared = this.#shared.get(key) ?? { source: open(order), users: 0 };
    this.#shared.set(key, shared);
    shared.users += 1;
    const leave = (): boolean => {
      shared.users -= 1;
      if (shared.users === 0 && this.#shared.get(key) === shared) this.#shared.delete(key);
      return shared.users === 0;
    };
    try {
      const source = await shared.source;
      let open = true;
      return {
        source,
        close: async () => {
          if (!open) return;
          open = false;
          if (leave()) await source.close();
        },
      };
    } catch (error) {
      leave();
      throw error;
    }
  }
}

async function open({ store, credentials, environment }: ImageOrder & { store: string }): Promise<Source> {
  const { openSource } = await import('../source/open-source.js');
  return openSource(store, {
    ...(credentials !== undefined && { credentialsFile: credentials }),
    // What the caller has set, not what the daemon was started with.
    env: environment ?? {},
  });
}
