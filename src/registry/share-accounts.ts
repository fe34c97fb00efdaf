/**
 * Samba accounts, one for each repository's share, with what smbd needs to know of them. All lies in `samba/` of the
 * data directory, in text files that smbd reads anew when they change, so that it neither has to be restarted nor told:
 *
 *     accounts.json   {"version": 1, "accounts": {"<repository>": {"name", "number", "password", "directory"}}}
 *     smbpasswd       names and NT hashes (`passdb backend = smbpasswd:…`)
 *     passwd, group   a Unix account for each, for nss_wrapper (or extrausers); the home directory is the share
 *     accounts.lock   flock(2) of who changes them: the registry, or `orca registry samba --rotate`
 *
 * The files with secrets have mode 0600.
 */
import { createHash, randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, readFile, rename, stat, unlink, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { FileLock } from '../image/lock.js';
import { syncDirectory } from '../oci/durable-file.js';
import { md4 } from '../smb/md4.js';
import { isMissing } from './data-directory.js';
import { RegistryError } from './registry-error.js';

export interface ShareAccount {
  /** Of the account and of its share. */
  name: string;
  /** Counts accounts; the uid is FIRST_UID more. */
  number: number;
  password: string;
  /** Absolute path of the repository's store. */
  directory: string;
}

interface AccountsFile {
  version: 1;
  accounts: Record<string, ShareAccount>;
}

/** Nobody has these (systemd's table of uids ends below), and Samba can make RIDs of them. */
const FIRST_UID = 1_879_100_000;
const NOBODY_ID = 65_534;
const PASSWORD_BYTES = 24;
const VERSION = 1;
/** What a share name may begin with: no character that smb.conf, passwd or a URL takes for something else. */
const PREFIX = /^[a-z][a-z0-9-]{0,15}$/;
/** Neither smb.conf, passwd nor a shell takes any of it for something else. */
export const PLAIN_PATH = /^\/[\w./+@,-]*$/;

export class ShareAccounts {
  readonly directory: string;
  private known: { version: string; file: AccountsFile } | undefined;

  /** `data` is the data directory of the registry. */
  constructor(private readonly data: string) {
    this.directory = join(data, 'samba');
  }

  /** Throws RegistryError INVALID_OPTION. */
  static checkPrefix(prefix: string): void {
    if (PREFIX.test(prefix)) return;
    throw new RegistryError(
      'INVALID_OPTION',
      `${prefix}: names of shares begin with at most 16 of a-z 0-9 -, the first one a letter`,
    );
  }

  /** By repository. */
  async list(): Promise<ReadonlyMap<string, ShareAccount>> {
    return new Map(Object.entries((await this.read()).accounts));
  }

  /** The account of a repository's share; it is made when there is none. */
  async ensure(repository: string, prefix: string, directory: string): Promise<ShareAccount> {
    const present = (await this.read()).accounts[repository];
    if (present?.directory === directory && present.name.startsWith(prefix)) return present;
    return this.change((accounts) => {
      const now = accounts[repository];
      if (now?.directory === directory && now.name.startsWith(prefix)) return now;
      if (!PLAIN_PATH.test(directory)) {
        throw new RegistryError('INVALID_OPTION', `${directory}: smbd cannot serve a directory of this name`);
      }
      const taken = Object.values(accounts).map(({ number }) => number);
      const number = now?.number ?? Math.max(0, ...taken) + 1;
      const id = createHash('sha256').update(repository).digest('hex').slice(0, 16);
      const account = { name: `${prefix}${id}`, number, password: newPassword(), directory };
      accounts[repository] = account;
      return account;
    });
  }

  /** Nobody can log in to the repository's share any more; does nothing when nobody could. */
  async remove(repository: string): Promise<void> {
    if ((await this.read()).accounts[repository] === undefined) return;
    await this.change((accounts) => {
      delete accounts[repository];
    });
  }

  /** New passwords, of one repository or of all; gives the repositories. */
  async rotate(repository?: string): Promise<string[]> {
    return this.change((accounts) => {
      const names = Object.keys(accounts).filter((name) => repository === undefined || name === repository);
      for (const name of names) accounts[name] = { ...accounts[name]!, password: newPassword() };
      return names;
    });
  }

  /** Writes the files of smbd, also when nothing has changed. */
  async rewrite(): Promise<void> {
    await this.change(() => undefined);
  }

  private get path(): string {
    return join(this.directory, 'accounts.json');
  }

  /** The file as it is now; another process may have changed it. */
  private async read(): Promise<AccountsFile> {
    try {
      const { ino, size, mtimeMs } = await stat(this.path);
      const version = `${ino} ${size} ${mtimeMs}`;
      if (this.known?.version !== version) {
        const file = JSON.parse(await readFile(this.path, 'utf8')) as AccountsFile;
        if (file.version !== VERSION) {
          throw new RegistryError('INVALID_DATA', `${this.path}: unknown version ${file.version}`);
        }
        this.known = { version, file };
      }
      return this.known.file;
    } catch (error) {
      if (isMissing(error)) return { version: VERSION, accounts: {} };
      throw error;
    }
  }

  private async change<T>(action: (accounts: Record<string, ShareAccount>) => T): Promise<T> {
    await mkdir(this.directory, { recursive: true, mode: 0o755 });
    const lock = await FileLock.acquire(join(this.directory, 'accounts.lock'));
    try {
      const accounts = { ...(await this.read()).accounts };
      const result = action(accounts);
      // What smbd believes comes first: an account that a client is told of can log in.
      await this.writeForSmbd(Object.entries(accounts));
      const file: AccountsFile = { version: VERSION, accounts };
      await this.write('accounts.json', `${JSON.stringify(file, undefined, 1)}\n`, 0o600);
      await syncDirectory(this.directory);
      return result;
    } finally {
      lock.release();
    }
  }

  private async writeForSmbd(accounts: readonly (readonly [string, ShareAccount])[]): Promise<void> {
    const { uid, gid } = await stat(this.data);
    const owner = uid === 0 ? [] : [`${OWNER}:x:${uid}:${gid}:data directory:/nonexistent:/usr/sbin/nologin`];
    const passwd = [
      'root:x:0:0:root:/nonexistent:/usr/sbin/nologin',
      `nobody:x:${NOBODY_ID}:${NOBODY_ID}:nobody:/nonexistent:/usr/sbin/nologin`,
      ...owner,
      ...accounts.map(
        ([repository, { name, number, directory }]) =>
          `${name}:x:${FIRST_UID + number}:${NOBODY_ID}:${repository}:${directory}:/usr/sbin/nologin`,
      ),
    ];
    const groups = ['root:x:0:', `nogroup:x:${NOBODY_ID}:`, ...(gid === 0 ? [] : [`${OWNER}:x:${gid}:`])];
    // smbpasswd(5): no LAN Manager hash; a user; the time of the last change.
    const changed = Math.floor(Date.now() / 1000)
      .toString(16)
      .toUpperCase()
      .padStart(8, '0');
    const hashes = accounts.map(
      ([, { name, number, password }]) =>
        `${name}:${FIRST_UID + number}:${'X'.repeat(32)}:${ntHash(password)}:[U          ]:LCT-${changed}:`,
    );
    const text = (lines: readonly string[]) => lines.map((line) => `${line}\n`).join('');
    await this.write('group', text(groups), 0o644);
    await this.write('passwd', text(passwd), 0o644);
    await this.write('smbpasswd', text(hashes), 0o600);
  }

  private async write(name: string, content: string, mode: number): Promise<void> {
    const path = join(this.directory, name);
    const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
    const before = await stat(path).catch(() => undefined);
    let file: FileHandle | undefined;
    try {
      file = await open(temporary, 'wx', mode);
      await file.writeFile(content);
      await file.sync();
      // nss_wrapper compares the seconds of the time of change alone.
      const seconds = Math.max(Math.floor(Date.now() / 1000), Math.floor((before?.mtimeMs ?? 0) / 1000) + 1);
      await utimes(temporary, seconds, seconds);
      await rename(temporary, path);
    } catch (error) {
      await unlink(temporary).catch(() => undefined);
      throw error;
    } finally {
      await file?.close();
    }
  }
}

/** The name, for smbd, of the owner of the data directory, who reads the files whatever account is logged in. */
export const OWNER = 'orca-data';

function newPassword(): string {
  return randomBytes(PASSWORD_BYTES).toString('base64url');
}

/** MS-NLMP §3.3.1, NTOWFv1. */
function ntHash(password: string): string {
  return md4(Buffer.from(password, 'utf16le')).toString('hex').toUpperCase();
}
