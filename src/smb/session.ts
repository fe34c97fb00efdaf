/** A login to one share over one connection, and the commands on it. */
import { onAbort } from '../abort.js';
import type { ByteRange } from '../byte-range.js';
import { decodeClose, encodeClose } from './close.js';
import { Connection, type Exchange } from './connection.js';
import { decodeCreate, encodeCreate, type Kind, type Opened } from './create.js';
import { decodeEmpty, encodeEmpty } from './empty-body.js';
import { SmbError } from './error.js';
import { Command } from './header.js';
import { CREDIT_UNIT, Login, type Negotiated, type SessionOptions } from './login.js';
import { type DirectoryEntry, decodeQueryDirectory, encodeQueryDirectory } from './query-directory.js';
import { decodeQueryAllInformation, encodeQueryAllInformation, type FileStatus } from './query-info.js';
import { decodeRead, encodeRead, RELATED_FILE } from './read.js';
import { Status, statusError, statusName } from './status.js';

/** One answer of QUERY_DIRECTORY: about 400 entries. */
const DIRECTORY_CHUNK = 64 * 1024;
/** A directory of the store has one file per layer; beyond this a listing is a mistake or an attack. */
const MAX_ENTRIES = 1_000_000;
/** Milliseconds for the server to answer a farewell; without one it cleans up when the connection closes. */
const FAREWELL_TIMEOUT = 1000;
/** The listing is complete; the second is how some servers say that there is nothing in it at all. */
const ENDS: readonly (string | undefined)[] = [
  statusName(Status.NO_MORE_FILES),
  statusName(Status.NO_SUCH_FILE),
];

/** A file that was opened, and the beginning of what is read of it first when that came along. */
export interface OpenedFile {
  opened: Opened;
  first: { offset: number; bytes: Buffer } | undefined;
}

export class Session {
  readonly #options: SessionOptions;
  readonly #connection: Connection;
  /** What the two sides agreed on. */
  readonly negotiated: Negotiated;

  private constructor(options: SessionOptions, connection: Connection, negotiated: Negotiated) {
    this.#options = options;
    this.#connection = connection;
    this.negotiated = negotiated;
  }

  /** Connects and logs in, all within the connect timeout. */
  static async open(options: SessionOptions, signal?: AbortSignal): Promise<Session> {
    const connection = await Connection.open(options, signal);
    const { location, connectTimeout } = options;
    const timer = setTimeout(() => {
      connection.fail(new SmbError('TIMEOUT', `${location}: the login took more than ${connectTimeout} ms`));
    }, connectTimeout);
    const forget = onAbort(signal, () => connection.fail(new SmbError('CLOSED', `${location}: aborted`)));
    try {
      return new Session(options, connection, await new Login(options, connection).run());
    } catch (error) {
      connection.fail(error);
      signal?.throwIfAborted();
      throw error instanceof SmbError && error.code === 'PROTOCOL' ? connection.failure! : error;
    } finally {
      clearTimeout(timer);
      forget();
    }
  }

  get alive(): boolean {
    return this.#connection.failure === undefined;
  }

  /** The session is of no more use, though its connection may be. */
  abandon(error: SmbError): void {
    this.#connection.fail(error);
  }

  /** Sends a command and gives what a successful response says; `name` is for errors. */
  async #call<T>(
    command: number,
    body: Buffer,
    name: string,
    decode: (message: Buffer) => T,
    length = 0,
    signal?: AbortSignal,
  ): Promise<T> {
    const exchange = await this.#connection.request(command, body, this.#charge(length), signal);
    return this.#result(exchange, name, decode);
  }

  #charge(length: number): number {
    return this.#connection.multiCredit ? Math.max(1, Math.ceil(length / CREDIT_UNIT)) : 1;
  }

  #result<T>({ response }: Exchange, name: string, decode: (message: Buffer) => T): T {
    const { status } = response.header;
    if (status !== Status.SUCCESS) throw statusError(status, this.#where(name));
    try {
      return decode(response.bytes);
    } catch (error) {
      this.#connection.fail(error);
      throw this.#connection.failure!;
    }
  }

  #where(path: string): string {
    return path === '' ? this.#options.location : `${this.#options.location}/${path.replaceAll('\\', '/')}`;
  }

  /** Opens `name` (backslashes, relative to the share). */
  create(name: string, kind: Kind): Promise<Opened> {
    return this.#call(Command.CREATE, encodeCreate(name, kind), name, decodeCreate);
  }

  /**
   * Opens a file and begins to read it, in one round trip. Nothing comes along when credits allow only one request at
   * a time, or when the server refuses the READ, as it may in a compound (§ 3.3.5.2.7): `read` will tell why.
   */
  async openFile(name: string, { offset, length }: ByteRange): Promise<OpenedFile> {
    const asked = Math.min(length, this.pieceSize);
    if (asked === 0 || this.#connection.creditWindow < 1 + this.#charge(asked)) {
      return { opened: await this.create(name, 'file'), first: undefined };
    }
    const [created, read] = (await this.#connection.compound([
      { command: Command.CREATE, body: encodeCreate(name, 'file'), charge: 1 },
      { command: Command.READ, body: encodeRead(RELATED_FILE, offset, asked), charge: this.#charge(asked) },
    ])) as [Exchange, Exchange];
    const opened = this.#result(created, name, decodeCreate);
    if (read.response.header.status !== Status.SUCCESS) return { opened, first: undefined };
    return { opened, first: { offset, bytes: this.#result(read, name, this.#decodeRead(asked)) } };
  }

  close(fileId: Buffer): Promise<void> {
    return this.#call(Command.CLOSE, encodeClose(fileId), '', decodeClose);
  }

  /** The most that one `read` may ask for now: credits bound it as well as the server's limit. */
  get pieceSize(): number {
    const byCredits = Math.max(1, Math.floor(this.#connection.creditWindow / 2)) * CREDIT_UNIT;
    return Math.min(this.negotiated.maxReadSize, byCredits);
  }

  /** Reads at most `length` bytes, at least one, to be given back to the frame pool; `name` is for errors. */
  read(fileId: Buffer, offset: number, length: number, name: string, signal?: AbortSignal): Promise<Buffer> {
    const body = encodeRead(fileId, offset, length);
    return this.#call(Command.READ, body, name, this.#decodeRead(length), length, signal);
  }

  #decodeRead(asked: number): (message: Buffer) => Buffer {
    return (message) => {
      const data = decodeRead(message, asked);
      this.#options.frames?.pass(message, data);
      return data;
    };
  }

  queryInfo(fileId: Buffer, name: string): Promise<FileStatus> {
    return this.#call(Command.QUERY_INFO, encodeQueryAllInformation(fileId), name, decodeQueryAllInformation);
  }

  async queryDirectory(fileId: Buffer, name: string, signal?: AbortSignal): Promise<DirectoryEntry[]> {
    const entries: DirectoryEntry[] = [];
    for (let first = true; ; first = false) {
      const body = encodeQueryDirectory(fileId, DIRECTORY_CHUNK, first);
      try {
        const more = await this.#call(
          Command.QUERY_DIRECTORY,
          body,
          name,
          decodeQueryDirectory,
          DIRECTORY_CHUNK,
          signal,
        );
        for (const entry of more) entries.push(entry);
      } catch (error) {
        if (error instanceof SmbError && ENDS.includes(error.status)) return entries;
        throw error;
      }
      if (entries.length > MAX_ENTRIES) {
        throw new SmbError(
          'PROTOCOL',
          `${this.#where(name)}: more than ${MAX_ENTRIES} entries in one directory`,
        );
      }
    }
  }

  echo(signal?: AbortSignal): Promise<void> {
    return this.#call(Command.ECHO, encodeEmpty(), '', decodeEmpty, 0, signal);
  }

  /** Takes leave of the server, briefly, and closes the connection. Never fails. */
  async end(): Promise<void> {
    const closed = new SmbError('CLOSED', `${this.#options.location}: the connection is closed`);
    const timer = setTimeout(() => this.#connection.fail(closed), FAREWELL_TIMEOUT);
    try {
      await this.#call(Command.TREE_DISCONNECT, encodeEmpty(), '', decodeEmpty);
      await this.#call(Command.LOGOFF, encodeEmpty(), '', decodeEmpty);
    } catch {
      // The connection is gone, which is what was wanted.
    } finally {
      clearTimeout(timer);
    }
    this.#connection.fail(closed);
  }
}
