/**
 * Who may use a registry: a file of lines as `htpasswd -B` writes them, with what each user may do.
 *
 *     alice:$2y$10$…:team/*=pull,push,delete library/*=pull
 *     ci:$2y$10$…:*=pull,push
 *     anonymous::public/*=pull
 *
 * After the second colon stand grants, separated by spaces: a repository name, or the beginning of names followed by
 * `*`, then `=` and actions: pull, push, delete, metadata, or `*` for all of them. A user without grants may log in
 * and nothing else. The user `anonymous`, without a password, is everybody who shows no credentials. The file is read
 * again when it changes.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { LRUCache } from 'lru-cache';
import { isRepositoryPath } from '../oci/reference.js';
import { log } from '../telemetry/logger.js';
import { Passwords } from './passwords.js';
import { RegistryError } from './registry-error.js';

export const ACTIONS = ['pull', 'push', 'delete', 'metadata'] as const;
export type Action = (typeof ACTIONS)[number];

/** A password that was right is compared cheaply for so long. */
const REMEMBERED_MS = 5 * 60_000;
const CHECK_MS = 1000;
const HASH = /^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$/;
const MAX_COST = 14;
/** What the password of an unknown user is compared with, so that time does not tell which users there are. */
const UNKNOWN = `$2b$10$${'.'.repeat(53)}`;
export const ANONYMOUS = 'anonymous';

interface Grant {
  /** A name, or the beginning of names when `prefix`. */
  text: string;
  prefix: boolean;
  actions: ReadonlySet<Action>;
}

export class User {
  constructor(
    readonly name: string,
    /** Empty: no password fits. */
    readonly passwordHash: string,
    private readonly grants: readonly Grant[],
  ) {}

  may(repository: string, action: Action): boolean {
    return this.grants.some(
      ({ text, prefix, actions }) =>
        actions.has(action) && (prefix ? repository.startsWith(text) : repository === text),
    );
  }
}

export class UsersFile {
  private users: ReadonlyMap<string, User> = new Map();
  private version = '';
  private checked = 0;
  private readonly passwords = new Passwords();
  private readonly key = randomBytes(32);
  private readonly right = new LRUCache<string, true>({ max: 1000, ttl: REMEMBERED_MS });

  private constructor(readonly path: string) {}

  /** Throws RegistryError INVALID_USERS, which names the line. */
  static async open(path: string): Promise<UsersFile> {
    const file = new UsersFile(path);
    try {
      await file.load();
    } catch (error) {
      if (error instanceof RegistryError) throw error;
      throw new RegistryError('INVALID_USERS', `users file ${path}: ${(error as Error).message}`, {
        cause: error,
      });
    }
    return file;
  }

  private async load(): Promise<void> {
    const { mtimeMs, size, ino } = await stat(this.path);
    const version = `${mtimeMs} ${size} ${ino}`;
    if (version === this.version) return;
    const users = parseUsers(await readFile(this.path, 'utf8'), this.path);
    this.users = users;
    this.version = version;
  }

  /** The user as the file has it now; a file that has become unreadable leaves the users as they were. */
  async find(name: string): Promise<User | undefined> {
    if (Date.now() - this.checked >= CHECK_MS) {
      this.checked = Date.now();
      await this.load().catch((error: Error) =>
        log.error('users file cannot be read; the users stay as they were', { error }),
      );
    }
    return this.users.get(name);
  }

  /** The user whose password this is. Throws ApiError TOOMANYREQUESTS when too many want to know at once. */
  async login(name: string, password: string): Promise<User | undefined> {
    const user = await this.find(name);
    const hashed = user?.passwordHash || UNKNOWN;
    const known = createHmac('sha256', this.key)
      .update(JSON.stringify([hashed, password]))
      .digest('hex');
    if (this.right.has(known)) return user;
    const equal = await this.passwords.compare(password, hashed);
    if (!equal || user === undefined || user.passwordHash === '') return undefined;
    this.right.set(known, true);
    return user;
  }

  /** Changes with the password, and does not tell it: a token that carries it is void once the password is another. */
  static fingerprint(user: User, key: Uint8Array): string {
    return createHmac('sha256', key).update(`password ${user.passwordHash}`).digest('base64url').slice(0, 22);
  }

  static sameFingerprint(one: string, other: string): boolean {
    const [a, b] = [Buffer.from(one), Buffer.from(other)];
    return a.length === b.length && timingSafeEqual(a, b);
  }
}

/** Throws RegistryError INVALID_USERS. */
export function parseUsers(text: string, path: string): Map<string, User> {
  const users = new Map<string, User>();
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const invalid = (why: string) =>
      new RegistryError('INVALID_USERS', `users file ${path}: line ${index + 1}: ${why}`);
    const [name = '', passwordHash, ...rest] = line.split(':');
    if (!/^[A-Za-z0-9][A-Za-z0-9._@-]{0,127}$/.test(name))
      throw invalid('the name must be 1 to 128 of A-Z a-z 0-9 . _ @ -');
    if (users.has(name)) throw invalid(`${name} is there twice`);
    if (passwordHash === undefined) throw invalid(`no password hash; htpasswd -nB ${name} makes one`);
    const cost = HASH.exec(passwordHash)?.[1];
    if (name === ANONYMOUS ? passwordHash !== '' : cost === undefined) {
      throw invalid(
        name === ANONYMOUS
          ? `${ANONYMOUS} has no password`
          : `not a bcrypt hash; htpasswd -nB ${name} makes one`,
      );
    }
    if (Number(cost ?? 0) > MAX_COST) throw invalid(`the cost of the hash is above ${MAX_COST}`);
    const grants = rest.join(':').split(/\s+/).filter(Boolean);
    users.set(
      name,
      new User(
        name,
        passwordHash,
        grants.map((grant) => parseGrant(grant, invalid)),
      ),
    );
  }
  return users;
}

function parseGrant(text: string, invalid: (why: string) => RegistryError): Grant {
  const [pattern = '', list, ...rest] = text.split('=');
  if (list === undefined || rest.length > 0) throw invalid(`${text}: a grant is REPOSITORY=ACTION,ACTION`);
  const actions = list === '*' ? [...ACTIONS] : list.split(',');
  for (const action of actions) {
    if (!(ACTIONS as readonly string[]).includes(action))
      throw invalid(`${text}: ${action} is none of ${ACTIONS}`);
  }
  const prefix = pattern.endsWith('*');
  const name = prefix ? pattern.slice(0, -1) : pattern;
  const complete = prefix ? `${name}x` : name;
  if (!isRepositoryPath(complete))
    throw invalid(`${text}: not a repository name, or the beginning of one and *`);
  return { text: name, prefix, actions: new Set(actions as Action[]) };
}
