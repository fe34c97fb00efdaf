/**
 * smb://[[DOMAIN;]USER[:PASSWORD]@]HOST[:PORT]/SHARE[/PATH], each part percent-encoded where it has to be.
 *
 * The user part is taken out at once: neither `location` nor any message has it.
 */
import { SmbError } from './error.js';

export interface SmbUrl {
  host: string;
  port: number;
  share: string;
  /** Folder inside the share, without slashes at its ends; empty for the root. */
  path: string;
  user: { username: string; password: string | undefined; domain: string | undefined } | undefined;
  /** For messages: the URL without the user part. */
  location: string;
}

export const SMB_PORT = 445;

function invalid(location: string, why: string): SmbError {
  return new SmbError('INVALID_URL', `${location}: ${why}; expected smb://HOST[:PORT]/SHARE[/PATH]`);
}

/** Removes user and password of every smb:// URL in `text`. */
export function redactSmbUrls(text: string): string {
  // The user part may hold '@' and, when somebody forgot to encode it, '/': up to the last '@' of the word.
  return text.replace(/(smb:\/\/)\S*@/gi, '$1');
}

export function parseSmbUrl(url: string): SmbUrl {
  // Over-redacts on purpose: what stands before any '@' may be a password that nobody encoded.
  const shown = url.replace(/^([a-z]*:\/\/)?.*@/is, '$1');
  if (!/^smb:\/\//i.test(url)) throw invalid(shown.slice(0, 200), 'not an smb:// URL');
  const decode = (part: string) => {
    try {
      return decodeURIComponent(part);
    } catch {
      throw invalid(shown, 'a percent sign that does not encode anything');
    }
  };
  const match = /^smb:\/\/(?:([^/]*)@)?([^/@]*)(?:\/(.*))?$/i.exec(url);
  if (match === null) throw invalid(shown, 'not an smb:// URL');
  const [, userPart, authority = '', rest = ''] = match;
  const address = /^(\[[0-9a-f:.%]+\]|[^:[\]]+)(?::(\d{1,5}))?$/i.exec(authority);
  if (address === null) throw invalid(shown, 'no host');
  const host = decode(address[1]!.replace(/^\[(.*)\]$/, '$1'));
  const port = address[2] === undefined ? SMB_PORT : Number(address[2]);
  if (port < 1 || port > 65535) throw invalid(shown, 'no such port');
  const [share = '', ...folders] = rest
    .split('/')
    .filter((part) => part !== '')
    .map(decode);
  if (share === '') throw invalid(shown, 'no share');
  if (/[\\/\0]/.test(share + folders.join(''))) throw invalid(shown, 'a separator inside a name');
  if (folders.some((part) => part === '.' || part === '..')) throw invalid(shown, "'.' or '..' in the path");
  const path = folders.join('/');
  const shownHost = host.includes(':') ? `[${host}]` : host;
  return {
    host,
    port,
    share,
    path,
    user: userPart === undefined ? undefined : parseUser(userPart, decode),
    location: `smb://${shownHost}${port === SMB_PORT ? '' : `:${port}`}/${share}${path === '' ? '' : `/${path}`}`,
  };
}

function parseUser(part: string, decode: (part: string) => string): NonNullable<SmbUrl['user']> {
  const colon = part.indexOf(':');
  const name = colon < 0 ? part : part.slice(0, colon);
  const semicolon = name.indexOf(';');
  return {
    username: decode(name.slice(semicolon + 1)),
    password: colon < 0 ? undefined : decode(part.slice(colon + 1)),
    domain: semicolon < 0 ? undefined : decode(name.slice(0, semicolon)),
  };
}
