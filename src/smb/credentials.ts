/**
 * User name and password for a share, kept out of everything that prints.
 *
 * They come, first found first, from a credentials file in the format of mount.cifs, from the user part of the
 * URL, from ORCA_SMB_USER, ORCA_SMB_PASSWORD and ORCA_SMB_DOMAIN.
 */
import { open } from 'node:fs/promises';
import { inspect } from 'node:util';
import { SmbError } from './error.js';

export interface SmbCredentials {
  /** Empty: anonymous. */
  readonly username: string;
  /** Not enumerable on what `smbCredentials` returns, so neither JSON nor inspect() shows it. */
  readonly password: string;
  readonly domain?: string;
}

/** A frozen copy that does not print its password. `DOMAIN\user` as the name is taken apart. */
export function smbCredentials(from: {
  username: string;
  password: string;
  domain?: string | undefined;
}): SmbCredentials {
  const backslash = from.username.indexOf('\\');
  const username = from.username.slice(backslash + 1);
  const domain = from.domain ?? (backslash >= 0 ? from.username.slice(0, backslash) : undefined);
  const credentials = { username, ...(domain === undefined ? {} : { domain }) };
  Object.defineProperty(credentials, 'password', { value: from.password, enumerable: false });
  Object.defineProperty(credentials, inspect.custom, { value: () => `SmbCredentials(${username})` });
  return Object.freeze(credentials) as SmbCredentials;
}

/** A credentials file has three short lines; a larger one is some other file. */
const MAX_FILE = 64 * 1024;
const KEYS = new Map<string, 'username' | 'password' | 'domain'>([
  ['username', 'username'],
  ['user', 'username'],
  ['password', 'password'],
  ['pass', 'password'],
  ['domain', 'domain'],
  ['dom', 'domain'],
  ['workgroup', 'domain'],
]);

/** Reads the lines of a mount.cifs credentials file; `path` is for messages, which never quote a line. */
export function parseCredentialsFile(text: string, path: string): SmbCredentials {
  const found: Partial<Record<'username' | 'password' | 'domain', string>> = {};
  for (const line of text.replace(/^\ufeff/, '').split(/\r?\n/)) {
    const trimmed = line.trimStart();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const equals = trimmed.indexOf('=');
    const key = equals < 0 ? undefined : KEYS.get(trimmed.slice(0, equals).trim().toLowerCase());
    // A password keeps its spaces: everything after the equals sign is its value.
    if (key !== undefined) found[key] = trimmed.slice(equals + 1);
  }
  if (found.username === undefined) {
    throw new SmbError('INVALID_CREDENTIALS_FILE', `${path}: has no line "username=…"`);
  }
  return smbCredentials({
    username: found.username.trim(),
    password: found.password ?? '',
    domain: found.domain?.trim(),
  });
}

export interface CredentialsFile {
  credentials: SmbCredentials;
  /** One line for the log when others than the owner may read the file. */
  warning: string | undefined;
}

export async function readCredentialsFile(path: string): Promise<CredentialsFile> {
  try {
    const file = await open(path, 'r');
    try {
      const { mode, size } = await file.stat();
      if (size > MAX_FILE) {
        throw new SmbError(
          'INVALID_CREDENTIALS_FILE',
          `${path}: ${size} bytes are too many for a credentials file`,
        );
      }
      const credentials = parseCredentialsFile(await file.readFile('utf8'), path);
      const exposed = (mode & 0o077) !== 0;
      return {
        credentials,
        warning: exposed ? `${path}: readable by others than its owner; run chmod 600 on it` : undefined,
      };
    } finally {
      await file.close();
    }
  } catch (cause) {
    if (cause instanceof SmbError) throw cause;
    const code = (cause as NodeJS.ErrnoException).code ?? 'error';
    throw new SmbError('INVALID_CREDENTIALS_FILE', `${path}: the credentials file cannot be read (${code})`, {
      cause,
    });
  }
}

export interface CredentialSources {
  /** Path of a mount.cifs credentials file. */
  file?: string | undefined;
  /** User part of the URL. */
  url?: { username: string; password: string | undefined; domain: string | undefined } | undefined;
  env?: NodeJS.ProcessEnv;
}

/** The credentials to use; anonymous ones when no source has any. */
export async function findCredentials({
  file,
  url,
  env = process.env,
}: CredentialSources): Promise<CredentialsFile> {
  if (file !== undefined) return readCredentialsFile(file);
  const username = url?.username ?? env['ORCA_SMB_USER'] ?? '';
  const password = url?.password ?? env['ORCA_SMB_PASSWORD'] ?? '';
  const domain = url?.domain ?? env['ORCA_SMB_DOMAIN'];
  return { credentials: smbCredentials({ username, password, domain }), warning: undefined };
}
