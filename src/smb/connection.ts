/**
 * One TCP connection to an SMB server: requests go out as credits allow, responses find their request.
 *
 * A connection fails as a whole and once: on a socket error, on anything that is not SMB, on a bad signature, and
 * when the server stops answering. Whoever waits then gets that error. It never reconnects; the client does.
 */
import { connect, type Socket } from 'node:net';
import { onAbort } from '../abort.js';
import { CreditWindow } from './credits.js';
import { encodeEmpty } from './empty-body.js';
import { protocolError, SmbError } from './error.js';
import type { FramePool, Slab } from './frame-pool.js';
import { encodeFrame, FrameReader } from './frames.js';
import { Command, HeaderFlag, type Message, treeField, UNSOLICITED } from './header.js';
import { Protection } from './protection.js';
import { Status } from './status.js';

/** The largest answer to anything but READ and QUERY_DIRECTORY, with room to spare; holds before login. */
const MAX_CONTROL_FRAME = 128 * 1024;

/**
 * Shorter plaintext frames are copied, so that a few of their bytes do not hold on to a whole receive buffer. A block of
 * a layer VHD, which is given back, is not.
 */
const KEEP_FROM = 64 * 1024;

export interface ConnectionOptions {
  host: string;
  port: number;
  /** `smb://HOST/SHARE`, for messages. */
  location: string;
  connectTimeout: number;
  /** Milliseconds without one byte from the server, while an answer is due, after which the connection is dead. */
  requestTimeout: number;
  /** Milliseconds of silence after which the server is asked for an ECHO. */
  idleTimeout: number;
  /** Where received frames lie; default a pool of the connection's own. */
  frames?: FramePool;
}

/** However busy the line is, an answer that takes this many times the request timeout will not come. */
const OVERDUE = 4;

export interface Request {
  command: number;
  body: Buffer;
  /** Credits. */
  charge: number;
}

interface Pending {
  command: number;
  charge: number;
  messageId: bigint;
  sentAt: number;
  asyncId: bigint | undefined;
  resolve(message: Message): void;
  reject(error: unknown): void;
}

export interface Exchange {
  /** The request as it was sent, without envelope. */
  request: Buffer;
  response: Message;
}

export class Connection {
  readonly options: ConnectionOptions;
  protection = new Protection(0n);
  treeId = 0;
  /** Set once LARGE_MTU is agreed: requests then say how many credits they charge. */
  multiCredit = false;
  readonly #socket: Socket;
  readonly #reader: FrameReader;
  readonly #credits = new CreditWindow(() =>
    this.fail(protocolError('fewer credits than any request needs')),
  );
  readonly #pending = new Map<bigint, Pending>();
  #nextMessageId = 0n;
  #outgoing: Buffer[] = [];
  #failure: SmbError | undefined;
  #lastReceived = Date.now();
  #lastSent = Date.now();
  readonly #watch: NodeJS.Timeout;

  private constructor(options: ConnectionOptions) {
    this.options = options;
    const onFrame = (frame: Buffer, slab: Slab) => this.#onFrame(frame, slab);
    this.#reader = new FrameReader(MAX_CONTROL_FRAME, onFrame, options.frames);
    this.#socket = connect({
      host: options.host,
      port: options.port,
      noDelay: true,
      keepAlive: true,
      onread: {
        buffer: () => this.#reader.target(),
        callback: (count) => this.#onBytes(count),
      },
    });
    const interval = Math.max(20, Math.min(options.requestTimeout, options.idleTimeout) / 4);
    this.#watch = setInterval(() => this.#checkTime(), interval).unref();
  }

  static async open(options: ConnectionOptions, signal?: AbortSignal): Promise<Connection> {
    signal?.throwIfAborted();
    const connection = new Connection(options);
    await connection.#connected(signal);
    return connection;
  }

  async #connected(signal?: AbortSignal): Promise<void> {
    const socket = this.#socket;
    const { host, port, location, connectTimeout } = this.options;
    const unreachable = (why: string, cause?: unknown) =>
      new SmbError(
        'UNREACHABLE',
        `${location}: no connection to ${host} port ${port} (${why}); check host, port and network`,
        {
          cause,
        },
      );
    let forget = () => {};
    let timer: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        timer = setTimeout(() => reject(unreachable(`no answer in ${connectTimeout} ms`)), connectTimeout);
        forget = onAbort(signal, () => reject(signal!.reason));
        socket.once('connect', resolve);
        socket.once('error', (cause: NodeJS.ErrnoException) =>
          reject(unreachable(cause.code ?? cause.message, cause)),
        );
      });
    } catch (error) {
      this.fail(
        error instanceof SmbError ? error : new SmbError('CLOSED', `${location}: aborted`, { cause: error }),
      );
      throw error;
    } finally {
      clearTimeout(timer);
      forget();
    }
    const lost = (why: string, cause?: unknown) =>
      this.fail(new SmbError('CONNECTION_LOST', `${location}: the connection was lost (${why})`, { cause }));
    socket.on('error', (cause: NodeJS.ErrnoException) => lost(cause.code ?? cause.message, cause));
    socket.on('close', () => lost('the server closed it'));
  }

  /** Why this connection is of no more use; undefined while it works. */
  get failure(): SmbError | undefined {
    return this.#failure;
  }

  /** The credits that may be outstanding at once. */
  get creditWindow(): number {
    return this.#credits.window;
  }

  /** Answers to READ and QUERY_DIRECTORY may bring this many bytes of data. */
  allowData(length: number): void {
    this.#reader.setLimit(Math.max(MAX_CONTROL_FRAME, length + 4096));
  }

  /** Sends a request and waits for its final response, whatever its status. */
  async request(command: number, body: Buffer, charge = 1, signal?: AbortSignal): Promise<Exchange> {
    const [only] = await this.compound([{ command, body, charge }], signal);
    return only!;
  }

  /**
   * Sends related requests (§ 3.2.4.1.4) in one packet, and waits for the final responses to all of them, whatever
   * their status. These may come together or one by one.
   */
  async compound(requests: readonly Request[], signal?: AbortSignal): Promise<Exchange[]> {
    signal?.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure;
    const charges = requests.reduce((sum, { charge }) => sum + charge, 0);
    await this.#credits.take(charges, signal);
    if (this.#failure !== undefined) throw this.#failure;
    if (signal?.aborted) {
      this.#credits.settle(charges, charges);
      throw signal.reason;
    }
    const pending: Pending[] = [];
    const responses = requests.map(({ command, charge }) => {
      const messageId = this.#nextMessageId;
      this.#nextMessageId += BigInt(charge);
      return new Promise<Message>((resolve, reject) => {
        const sentAt = Date.now();
        pending.push({ command, charge, messageId, sentAt, asyncId: undefined, resolve, reject });
      });
    });
    const { messages, packet } = this.protection.pack(
      requests.map(({ command, body, charge }, i) => ({
        header: {
          creditCharge: this.multiCredit ? charge : 0,
          status: 0,
          command,
          // The last one asks for what the window lacks.
          credits: i === requests.length - 1 ? this.#credits.toRequest(charge) : charge,
          flags: 0,
          messageId: pending[i]!.messageId,
          treeOrAsyncId: treeField(this.treeId),
        },
        body,
      })),
    );
    // The entries stay until the server answers: their credits come back only then.
    for (const one of pending) this.#pending.set(one.messageId, one);
    const forget = onAbort(signal, () => {
      for (const one of pending) {
        this.#cancel(one);
        one.reject(signal!.reason);
      }
    });
    this.#send(packet);
    try {
      const answers = await Promise.all(responses);
      return answers.map((response, i) => ({ request: messages[i]!, response }));
    } finally {
      forget();
    }
  }

  /** CANCEL charges nothing and has no response (§ 3.2.4.24). */
  #cancel({ messageId, asyncId }: Pending): void {
    if (!this.#pending.has(messageId)) return;
    const header = {
      creditCharge: 0,
      status: 0,
      command: Command.CANCEL,
      credits: 0,
      flags: asyncId === undefined ? 0 : HeaderFlag.ASYNC,
      messageId,
      treeOrAsyncId: asyncId ?? treeField(this.treeId),
    };
    this.#send(this.protection.pack([{ header, body: encodeEmpty() }]).packet);
  }

  /** What is sent in one turn of the event loop goes out in one write: answers often come, and go on, in bursts. */
  #send(packet: Buffer): void {
    this.#outgoing.push(encodeFrame(packet));
    if (this.#outgoing.length > 1) return;
    process.nextTick(() => {
      this.#lastSent = Date.now();
      const frames = this.#outgoing;
      this.#outgoing = [];
      if (this.#failure === undefined)
        this.#socket.write(frames.length === 1 ? frames[0]! : Buffer.concat(frames));
    });
  }

  #onBytes(count: number): boolean {
    this.#lastReceived = Date.now();
    if (this.#failure !== undefined) return false;
    try {
      this.#reader.received(count);
    } catch (error) {
      this.fail(error);
      return false;
    }
    return true;
  }

  /** Whether the frame's memory stays in use. */
  #onFrame(frame: Buffer, slab: Slab): boolean {
    const opened = this.protection.opensCopy(frame);
    const keep = !opened && frame.length >= KEEP_FROM;
    const own = opened || keep ? frame : Buffer.from(frame);
    const messages = this.protection.unpack(own);
    const last = messages.at(-1);
    if (keep && last !== undefined) this.options.frames?.lend(last.bytes, slab);
    for (const message of messages) {
      if (this.#failure !== undefined) return true;
      // Of a compound the last one brings the data; the others must not lie in the frame, which is given back with it.
      const leaves = keep && message !== last;
      this.#onMessage(leaves ? { ...message, bytes: Buffer.from(message.bytes) } : message);
    }
    return keep;
  }

  #onMessage(message: Message): void {
    const { header } = message;
    // Only oplock breaks come unasked, and no oplock is ever asked for.
    if (header.messageId === UNSOLICITED) return;
    if ((header.flags & HeaderFlag.SERVER_TO_REDIR) === 0) throw protocolError('a request');
    const pending = this.#pending.get(header.messageId);
    if (pending === undefined) throw protocolError('a response that nothing was asked for');
    if (pending.command !== header.command) {
      throw protocolError(`a response to command ${header.command} where ${pending.command} was asked`);
    }
    if (header.status === Status.PENDING && (header.flags & HeaderFlag.ASYNC) !== 0) {
      if (pending.asyncId !== undefined) throw protocolError('a second interim response to one request');
      pending.asyncId = header.treeOrAsyncId;
      this.#credits.grant(header.credits);
      return;
    }
    this.#pending.delete(header.messageId);
    pending.resolve(message);
    this.#credits.settle(pending.charge, header.credits);
  }

  #checkTime(): void {
    const now = Date.now();
    const { requestTimeout, idleTimeout, location } = this.options;
    const [oldest] = this.#pending.values();
    if (oldest === undefined) {
      const idle = now - Math.max(this.#lastReceived, this.#lastSent) >= idleTimeout;
      if (idle) this.options.frames?.clear();
      if (idle && this.protection.sessionId !== 0n) this.request(Command.ECHO, encodeEmpty()).catch(() => {});
      return;
    }
    const age = now - oldest.sentAt;
    const silent = Math.min(age, now - this.#lastReceived);
    if (silent > requestTimeout || age > requestTimeout * OVERDUE) {
      this.fail(
        new SmbError('TIMEOUT', `${location}: the server did not answer within ${requestTimeout} ms`),
      );
    }
  }

  /** Ends the connection; everyone who waits gets `error`. Only the first call counts. */
  fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    const { location } = this.options;
    if (error instanceof SmbError) {
      const named = error.message.startsWith(location) ? error.message : `${location}: ${error.message}`;
      this.#failure = new SmbError(error.code, named, { cause: error.cause });
    } else {
      this.#failure = new SmbError('PROTOCOL', `${location}: the answer of the server could not be read`, {
        cause: error,
      });
    }
    clearInterval(this.#watch);
    this.#socket.destroy();
    const waiting = [...this.#pending.values()];
    this.#pending.clear();
    for (const pending of waiting) pending.reject(this.#failure);
    this.#credits.fail(this.#failure);
  }
}
