/**
 * NT status codes that a read-only client meets (MS-ERREF § 2.3.1), and what each is to the user.
 */
import { SmbError } from './error.js';

export const Status = {
  SUCCESS: 0x00000000,
  PENDING: 0x00000103,
  BUFFER_OVERFLOW: 0x80000005,
  NO_MORE_FILES: 0x80000006,
  STOPPED_ON_SYMLINK: 0x8000002d,
  INVALID_PARAMETER: 0xc000000d,
  NO_SUCH_FILE: 0xc000000f,
  INVALID_DEVICE_REQUEST: 0xc0000010,
  END_OF_FILE: 0xc0000011,
  MORE_PROCESSING_REQUIRED: 0xc0000016,
  ACCESS_DENIED: 0xc0000022,
  OBJECT_NAME_INVALID: 0xc0000033,
  OBJECT_NAME_NOT_FOUND: 0xc0000034,
  OBJECT_PATH_NOT_FOUND: 0xc000003a,
  SHARING_VIOLATION: 0xc0000043,
  LOGON_FAILURE: 0xc000006d,
  ACCOUNT_RESTRICTION: 0xc000006e,
  INVALID_LOGON_HOURS: 0xc000006f,
  PASSWORD_EXPIRED: 0xc0000071,
  ACCOUNT_DISABLED: 0xc0000072,
  INSUFFICIENT_RESOURCES: 0xc000009a,
  FILE_IS_A_DIRECTORY: 0xc00000ba,
  NOT_SUPPORTED: 0xc00000bb,
  NETWORK_BUSY: 0xc00000bf,
  NETWORK_NAME_DELETED: 0xc00000c9,
  BAD_NETWORK_NAME: 0xc00000cc,
  REQUEST_NOT_ACCEPTED: 0xc00000d0,
  NOT_A_DIRECTORY: 0xc0000103,
  FILE_CLOSED: 0xc0000128,
  CANCELLED: 0xc0000120,
  ACCOUNT_LOCKED_OUT: 0xc0000234,
  PATH_NOT_COVERED: 0xc0000257,
  NETWORK_SESSION_EXPIRED: 0xc000035c,
  USER_SESSION_DELETED: 0xc0000203,
  INSUFF_SERVER_RESOURCES: 0xc0000205,
  LOGON_TYPE_NOT_GRANTED: 0xc000015b,
  SERVER_UNAVAILABLE: 0xc0000466,
} as const;

const NAMES = new Map<number, string>(
  Object.entries(Status).map(([name, value]) => [value, `STATUS_${name}`]),
);

export function statusName(status: number): string {
  return NAMES.get(status) ?? `STATUS_0x${status.toString(16).padStart(8, '0').toUpperCase()}`;
}

/** Statuses after which the whole session has to be set up anew; the caller reconnects and asks again. */
export function isSessionLost(status: number): boolean {
  return (
    status === Status.USER_SESSION_DELETED ||
    status === Status.NETWORK_SESSION_EXPIRED ||
    status === Status.NETWORK_NAME_DELETED
  );
}

/** Code, and the sentence after "NAME: "; `(STATUS)` and the remedy are part of it. */
const MEANINGS = new Map<number, [code: string, sentence: string]>([
  [Status.OBJECT_NAME_NOT_FOUND, ['NOT_FOUND', 'no such file on the share']],
  [Status.NO_SUCH_FILE, ['NOT_FOUND', 'no such file on the share']],
  [Status.OBJECT_PATH_NOT_FOUND, ['NOT_FOUND', 'a folder of this path is not on the share']],
  [Status.OBJECT_NAME_INVALID, ['INVALID_PATH', 'the server does not accept this name']],
  [Status.ACCESS_DENIED, ['ACCESS_DENIED', 'the server denied access; check the permissions of this user']],
  [Status.SHARING_VIOLATION, ['BUSY', 'another program holds this file open exclusively']],
  [Status.FILE_IS_A_DIRECTORY, ['IS_A_DIRECTORY', 'a directory where a file was expected']],
  [Status.NOT_A_DIRECTORY, ['NOT_A_DIRECTORY', 'a file where a directory was expected']],
  [
    Status.PATH_NOT_COVERED,
    [
      'DFS',
      'this path lies on another server by a DFS referral, which Orca does not follow; use the share it refers to',
    ],
  ],
  [Status.STOPPED_ON_SYMLINK, ['NOT_FOUND', 'a symbolic link that the server does not follow']],
  [Status.INSUFFICIENT_RESOURCES, ['BUSY', 'the server is short of resources; try again later']],
  [Status.INSUFF_SERVER_RESOURCES, ['BUSY', 'the server is short of resources; try again later']],
  [Status.REQUEST_NOT_ACCEPTED, ['BUSY', 'the server accepts no more connections; try again later']],
  [Status.NETWORK_BUSY, ['BUSY', 'the server is busy; try again later']],
  [Status.SERVER_UNAVAILABLE, ['BUSY', 'the server is not available now; try again later']],
]);

/** The error for a request about `what` (`smb://HOST/SHARE/path`) that the server answered with `status`. */
export function statusError(status: number, what: string): SmbError {
  const name = statusName(status);
  if (isSessionLost(status)) {
    return new SmbError('CONNECTION_LOST', `${what}: the server ended the session (${name})`, {
      status: name,
    });
  }
  const [code, sentence] = MEANINGS.get(status) ?? [name, 'the server refused'];
  return new SmbError(code, `${what}: ${sentence} (${name})`, { status: name });
}

const LOGON_REMEDIES = new Map<number, string>([
  [Status.LOGON_FAILURE, 'check the user name and password'],
  [Status.ACCESS_DENIED, 'check that this user may log in from the network'],
  [Status.ACCOUNT_RESTRICTION, 'the account has restrictions (an empty password, or no network logon)'],
  [Status.INVALID_LOGON_HOURS, 'the account may not log in at this time'],
  [Status.PASSWORD_EXPIRED, 'the password has expired; set a new one'],
  [Status.ACCOUNT_DISABLED, 'the account is disabled; have it enabled'],
  [Status.ACCOUNT_LOCKED_OUT, 'the account is locked; have it unlocked, or wait'],
  [Status.LOGON_TYPE_NOT_GRANTED, 'the account may not log in from the network'],
]);

/** The error for a refused login; `location` is `smb://HOST/SHARE`. */
export function logonError(status: number, user: string, location: string): SmbError {
  const remedy = LOGON_REMEDIES.get(status);
  if (remedy === undefined) return statusError(status, `login as ${user} to ${location}`);
  const name = statusName(status);
  return new SmbError('BAD_CREDENTIALS', `login as ${user} to ${location} was refused (${name}); ${remedy}`, {
    status: name,
  });
}
