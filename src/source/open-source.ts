/** From what a user writes for `--store` to the source that reads it. Nothing is contacted yet. */
import { fileURLToPath } from 'node:url';
import { type Logger, log } from '../telemetry/logger.js';
import { FileSource } from './file-source.js';
import type { SmbSourceOptions } from './smb-source.js';
import { type Source, SourceError } from './source.js';

export interface OpenSourceOptions {
  /** Path of a credentials file in the format of mount.cifs; otherwise the URL and ORCA_SMB_USER, … are asked. */
  credentialsFile?: string;
  env?: NodeJS.ProcessEnv;
  smb?: Pick<SmbSourceOptions, 'encryption' | 'dialects' | 'ciphers' | 'requestTimeout'>;
  logger?: Logger;
}

/** `file:DIR`, `file:///DIR`, `smb://HOST[:PORT]/SHARE[/PATH]`, `https://HOST[:PORT]/PATH`, or a path. Throws SourceError INVALID_URL and SmbError. */
export async function openSource(store: string, options: OpenSourceOptions = {}): Promise<Source> {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(store)?.[1]?.toLowerCase();
  if (scheme === 'smb') return openSmb(store, options);
  if (scheme === 'file') {
    const path = store.startsWith('file://') ? fileURLToPath(store) : store.slice('file:'.length);
    if (path === '') throw invalid('file: without a directory');
    return new FileSource(path);
  }
  if (scheme === 'https' || scheme === 'http') return openHttps(store, options);
  if (scheme !== undefined && store.includes('://'))
    throw invalid(`stores of the kind ${scheme}: cannot be read`);
  if (store === '') throw invalid('no store is named');
  return new FileSource(store);
}

/** The client is loaded when it is needed: it takes as long as the rest of a warm start. */
async function openSmb(store: string, options: OpenSourceOptions): Promise<Source> {
  const [{ findCredentials }, { SmbError }, { parseSmbUrl }, { SmbSource }] = await Promise.all([
    import('../smb/credentials.js'),
    import('../smb/error.js'),
    import('../smb/url.js'),
    import('./smb-source.js'),
  ]);
  try {
    const { host, port, share, path, user, location } = parseSmbUrl(store);
    const { credentials, warning } = await findCredentials({
      file: options.credentialsFile,
      url: user,
      ...(options.env === undefined ? {} : { env: options.env }),
    });
    if (warning !== undefined) (options.logger ?? log).warn(warning);
    return new SmbSource({ ...options.smb, host, port, share, path, location, credentials });
  } catch (cause) {
    if (!(cause instanceof SmbError)) throw cause;
    throw new SourceError(cause.code, cause.message, { cause });
  }
}

/** Name and password in the URL are sent as Basic. The client is loaded when it is needed, as that of SMB. */
async function openHttps(store: string, { env }: OpenSourceOptions): Promise<Source> {
  if (!URL.canParse(store)) throw invalid('not a URL');
  const { host, username, password } = new URL(store);
  const [{ HttpsSource }, { trustFor }, { RegistryCredentials }] = await Promise.all([
    import('./https-source.js'),
    import('../oci/registry-trust.js'),
    import('../oci/credentials.js'),
  ]);
  const user = { username: decodeURIComponent(username), password: decodeURIComponent(password) };
  const header = username === '' ? undefined : new RegistryCredentials(user).basic;
  return new HttpsSource({
    url: store,
    tls: await trustFor(host),
    authorization: async () => header,
    ...(env === undefined ? {} : { env }),
  });
}

function invalid(why: string): SourceError {
  return new SourceError(
    'INVALID_URL',
    `${why}: a store is a directory, file:DIR, smb://HOST[:PORT]/SHARE[/PATH] or https://HOST[:PORT]/PATH`,
  );
}
