/** What a registry that expands images adds to the distribution API: the mount API, and the files of the stores. */
import { resolve } from 'node:path';
import type { RouteGroup } from './context.js';
import type { BlobOrigin, Expansion } from './expansion/expansion.js';
import { PublishedProfiles } from './published-profiles.js';
import { mountRoutes } from './routes/mount.js';
import { profileRoutes } from './routes/profiles.js';
import { teleportFileRoutes } from './routes/teleport-files.js';
import type { ShareOptions } from './share-option.js';
import { shareLocation } from './share-option.js';
import { SignedLinks } from './signed-link.js';
import type { RegistryStorage } from './storage.js';

export interface TeleportOptions {
  /** The data directory. */
  data: string;
  /** Of the tokens. */
  key: Uint8Array;
  expansion: Expansion;
  origin: BlobOrigin;
  share: ShareOptions | undefined;
  requireRegion: boolean;
  storage: RegistryStorage;
}

export interface Teleport {
  routes: readonly RouteGroup[];
  /** To be called when nobody may read the repository's share any more. */
  closeShare(repository: string): Promise<void>;
}

/** Throws RegistryError INVALID_OPTION. */
export function createTeleport({
  data,
  key,
  expansion,
  origin,
  share,
  requireRegion,
  storage,
}: TeleportOptions): Teleport {
  const links = new SignedLinks(key);
  const sharePath = (repository: string) => resolve(expansion.sharePath(repository));
  const profiles = new PublishedProfiles(storage, expansion);
  const location = share && shareLocation(share, resolve(data));
  return {
    routes: [
      mountRoutes({ links, sharePath, share: location, requireRegion, expansion, origin, profiles }),
      profileRoutes({ expansion, origin, profiles }),
      teleportFileRoutes({ links, sharePath }),
    ],
    closeShare: async (repository) => location?.accounts.remove(repository),
  };
}
