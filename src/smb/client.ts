/**
 * A read-only SMB 2.1, 3.0.2 and 3.1.1 client for one share.
 *
 * Messages are signed always and encrypted when the server, the share or the caller asks for it. When the
 * connection is lost it is made anew, with growing pauses, and what was under way is asked again: callers see only
 * that it takes longer, until the attempts are used up and they get a retryable SmbError.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { orAbort } from '../abort.js';
import type { ByteRange } from '../byte-range.js';
import type { Cipher, Dialect, SigningAlgorithm } from './algorithms.js';
import type { Kind, Opened } from './create.js';
import type { SmbCredentials } from './credentials.js';
import { SmbError } from './error.js';
import { SmbFile } from './file.js';
import { FramePool } from './frame-pool.js';
import {
  DEFAULT_CIPHERS,
  DEFAULT_DIALECTS,
  DEFAULT_SIGNING,
  type Negotiated,
  type SessionOptions,
} from './login.js';
import { toShareName } from './path.js';
import type { DirectoryEntry } from './query-directory.js';
import type { FileStatus } from './query-info.js';
import { Session } from './session.js';
import { SMB_PORT } from './url.js';

export interface SmbClientOptions {
  host: string;
  port?: number;
  share: string;
  credentials: SmbCredentials;
  /** `required`: refuse a server that cannot encrypt. Default: encrypt when the server or the share demands it. */
  encryption?: 'if-required' | 'required';
  /** What to offer; the defaults are all that this client knows. */
  dialects?: readonly Dialect[];
  ciphers?: readonly Cipher[];
  signingAlgorithms?: readonly SigningAlgorithm[];
  /** Accept a guest's or an anonymous login, whose messages nothing protects. Default: refuse. */
  allowGuest?: boolean;
  /** Milliseconds for connection and login together. */
  connectTimeout?: number;
  /** Milliseconds without a sign of life from a server that owes an answer. */
  requestTimeout?: number;
  /** Milliseconds of silence before an ECHO keeps the connection alive. */
  idleTimeout?: number;
  /** Connections to try, with growing pauses, after one was lost. */
  reconnectAttempts?: number;
  /** Ends the first connection attempt only. */
  signal?: AbortSignal;
  /** Memory for what is received, which may be shared by clients; default one of the client's own. */
  frames?: FramePool;
}

const CONNECT_TIMEOUT = 10_000;
const REQUEST_TIMEOUT = 30_000;
const IDLE_TIMEOUT = 60_000;
/** With the pauses below: about half a minute, in which a server has restarted or is down. */
const RECONNECT_ATTEMPTS = 12;
const FIRST_PAUSE = 50;
const LONGEST_PAUSE = 5_000;
/** How often one task may lose its connection before it is given up: a request that kills the server stops here. */
const TASK_ATTEMPTS = 5;

/** Half of the pause is random, so that the hosts of a restarted server do not all come at once. */
function pauseBefore(attempt: number): number {
  const pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** attempt);
  return pause / 2 + (Math.random() * pause) / 2;
}

function isConnectionLoss(error: unknown): boolean {
  return error instanceof SmbError && (error.code === 'CONNECTION_LOST' || error.code === 'TIMEOUT');
}

/** A CREATE is never abandoned half way: an open that nobody waits for any more is closed again. */
async function orClosed<T>(
  opening: Promise<T>,
  close: (opened: T) => Promise<void>,
  signal: AbortSignal | undefined,
): Promise<T> {
  try {
    return await orAbort(opening, signal);
  } catch (error) {
    opening.then(close).catch(() => {});
    throw error;
  }
}

export class SmbClient {
  /** `smb://HOST[:PORT]/SHARE` */
  readonly location: string;
  /** @internal */
  readonly frames: FramePool;
  readonly #options: SessionOptions;
  readonly #reconnectAttempts: number;
  readonly #closing = new AbortController();
  #session: Session;
  #reconnecting: Promise<Session> | undefined;

  private constructor(
    options: SessionOptions & { frames: FramePool },
    reconnectAttempts: number,
    session: Session,
  ) {
    this.location = options.location;
    this.frames = options.frames;
    this.#options = options;
    this.#reconnectAttempts = reconnectAttempts;
    this.#session = session;
  }

  /** Connects and logs in. A server that does not answer is UNREACHABLE at once: only a lost connection is retried. */
  static async connect(options: SmbClientOptions): Promise<SmbClient> {
    const { host, port = SMB_PORT, share } = options;
    const shownHost = host.includes(':') ? `[${host}]` : host;
    const sessionOptions = {
      host,
      port,
      share,
      location: `smb://${shownHost}${port === SMB_PORT ? '' : `:${port}`}/${share}`,
      credentials: options.credentials,
      encryption: options.encryption ?? 'if-required',
      dialects: options.dialects ?? DEFAULT_DIALECTS,
      ciphers: options.ciphers ?? DEFAULT_CIPHERS,
      signingAlgorithms: options.signingAlgorithms ?? DEFAULT_SIGNING,
      allowGuest: options.allowGuest ?? false,
      connectTimeout: options.connectTimeout ?? CONNECT_TIMEOUT,
      requestTimeout: options.requestTimeout ?? REQUEST_TIMEOUT,
      idleTimeout: options.idleTimeout ?? IDLE_TIMEOUT,
      frames: options.frames ?? new FramePool(),
    } satisfies SessionOptions;
    const session = await Session.open(sessionOptions, options.signal);
    return new SmbClient(sessionOptions, options.reconnectAttempts ?? RECONNECT_ATTEMPTS, session);
  }

  /** What the present connection has agreed on. */
  get negotiated(): Negotiated {
    return this.#session.negotiated;
  }

  /**
   * Opens a file, by its path with `/` between the parts. What is to be read `first` is asked for in the same round
   * trip, and kept for the read that begins there; it may reach beyond the end of the file.
   */
  async open(
    path: string,
    signal?: AbortSignal,
    first: ByteRange = { offset: 0, length: 0 },
  ): Promise<SmbFile> {
    const name = toShareName(path);
    return this.run((session) => {
      const opening = session.openFile(name, first).then((file) => new SmbFile(this, name, session, file));
      return orClosed(opening, (file) => file.close(), signal);
    }, signal);
  }

  /** The entries of a directory, without `.` and `..`, in the server's order. */
  async readdir(path: string, signal?: AbortSignal): Promise<DirectoryEntry[]> {
    const name = toShareName(path);
    return this.run(async (session) => {
      const { fileId } = await this.#create(session, name, 'directory', signal);
      try {
        return await session.queryDirectory(fileId, name, signal);
      } finally {
        session.close(fileId).catch(() => {});
      }
    }, signal);
  }

  async stat(path: string, signal?: AbortSignal): Promise<FileStatus> {
    const name = toShareName(path);
    return this.run(async (session) => {
      const { fileId } = await this.#create(session, name, 'any', signal);
      try {
        return await session.queryInfo(fileId, name);
      } finally {
        session.close(fileId).catch(() => {});
      }
    }, signal);
  }

  /** Asks the server for a sign of life. */
  async echo(signal?: AbortSignal): Promise<void> {
    return this.run((session) => session.echo(signal), signal);
  }

  /** Closes the connection; what is under way gets CLOSED. Never fails. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(new SmbError('CLOSED', `${this.location}: the client is closed`));
    await this.#session.end();
  }

  /** `smb://HOST/SHARE/path` of a name on the wire, for messages. */
  locationOf(name: string): string {
    return `${this.location}/${name.replaceAll('\\', '/')}`;
  }

  /** @internal Runs `task` on a live session, again on a new one when the connection is lost under it. */
  async run<T>(task: (session: Session) => Promise<T>, signal?: AbortSignal): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted();
      const session = await orAbort(this.#liveSession(), signal);
      try {
        return await task(session);
      } catch (error) {
        this.#closing.signal.throwIfAborted();
        if (!isConnectionLoss(error) || attempt === TASK_ATTEMPTS) throw error;
        // A session that the server has ended says so on a connection that still works.
        session.abandon(error as SmbError);
        if (attempt > 1) await orAbort(sleep(pauseBefore(attempt)), signal);
      }
    }
  }

  #create(session: Session, name: string, kind: Kind, signal?: AbortSignal): Promise<Opened> {
    return orClosed(session.create(name, kind), ({ fileId }) => session.close(fileId), signal);
  }

  async #liveSession(): Promise<Session> {
    this.#closing.signal.throwIfAborted();
    if (this.#session.alive) return this.#session;
    this.#reconnecting ??= this.#reconnect().finally(() => {
      this.#reconnecting = undefined;
    });
    return this.#reconnecting;
  }

  async #reconnect(): Promise<Session> {
    const { signal } = this.#closing;
    for (let attempt = 1; ; attempt++) {
      try {
        const session = await Session.open(this.#options, signal);
        signal.throwIfAborted();
        this.#session = session;
        return session;
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof SmbError) || !error.retryable || attempt >= this.#reconnectAttempts)
          throw error;
      }
      await orAbort(sleep(pauseBefore(attempt)), signal);
    }
  }
}
