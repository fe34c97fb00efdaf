/** `--share smb://HOST[:PORT]/PREFIX` and `--share-dir DIR`: where clients and smbd find the shares of repositories. */
import { isAbsolute } from 'node:path';
import { parseSmbUrl, SMB_PORT } from '../smb/url.js';
import type { ShareLocation } from './mount-transports.js';
import { RegistryError } from './registry-error.js';
import { PLAIN_PATH, ShareAccounts } from './share-accounts.js';

export interface ShareOptions {
  /** `smb://HOST[:PORT]/PREFIX`: what the names of shares begin with stands in the place of a share. */
  url: string;
  /** The directory `shares/` of the data directory, as smbd sees it; default: as this process does. */
  directory?: string;
}

/** `data` is the absolute path of the data directory. Throws RegistryError INVALID_OPTION. */
export function shareLocation({ url, directory }: ShareOptions, data: string): ShareLocation {
  const invalid = (why: string, cause?: unknown) =>
    new RegistryError('INVALID_OPTION', `--share: ${why}; write smb://HOST[:PORT]/PREFIX`, { cause });
  let parsed: ReturnType<typeof parseSmbUrl>;
  try {
    parsed = parseSmbUrl(url);
  } catch (error) {
    throw invalid((error as Error).message, error);
  }
  const { host, port, share, path, user } = parsed;
  if (user !== undefined) throw invalid('each repository has an account of its own');
  if (path !== '') throw invalid(`there is a folder ${path} after the prefix`);
  ShareAccounts.checkPrefix(share);
  if (directory !== undefined && (!isAbsolute(directory) || !PLAIN_PATH.test(directory))) {
    throw new RegistryError(
      'INVALID_OPTION',
      `--share-dir ${directory}: not an absolute path that smbd can serve`,
    );
  }
  const shownHost = host.includes(':') ? `[${host}]` : host;
  return {
    origin: `smb://${shownHost}${port === SMB_PORT ? '' : `:${port}`}`,
    prefix: share,
    directory,
    accounts: new ShareAccounts(data),
  };
}
