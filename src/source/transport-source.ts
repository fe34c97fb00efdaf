/**
 * A source that a registry's mount API describes, and describes anew when its password or token is refused, about to
 * expire, or not known yet: a mount that lives for days outlives the credentials it began with.
 */
import type { ByteRange } from '../byte-range.js';
import type { Transport } from './mount-description.js';
import { type LayerHandle, type Source, SourceError, type SourceKind } from './source.js';

export interface TransportSourceOptions<T extends Transport> {
  kind: SourceKind;
  /** For messages. */
  location: string;
  /** How it is to be read now; `refused` is what the server did not accept. The same object says: nothing newer. */
  describe(refused: T | undefined): Promise<T>;
  /** Contacts nobody. */
  open(transport: T): Promise<Source>;
}

/** What a server answers to credentials that were good before. */
const REFUSALS = new Set(['ACCESS_DENIED', 'BAD_CREDENTIALS', 'SHARE_NOT_FOUND']);

/** Longer than any read from a source may take. */
const RETIREMENT_MS = 60_000;

interface Opened<T> {
  transport: T;
  source: Source;
}

export class TransportSource<T extends Transport> implements Source {
  readonly kind: SourceKind;
  readonly location: string;
  readonly #options: TransportSourceOptions<T>;
  #opened: Promise<Opened<T>> | undefined;
  /** Those that were replaced, until the reads that are under way on them have ended. */
  readonly #replaced = new Map<Source, NodeJS.Timeout>();
  #closed = false;

  constructor(options: TransportSourceOptions<T>) {
    this.kind = options.kind;
    this.location = options.location;
    this.#options = options;
  }

  async readFile(path: string, maxBytes: number, signal?: AbortSignal): Promise<Uint8Array> {
    return this.#renewing(await this.#open(), ({ source }) => source.readFile(path, maxBytes, signal));
  }

  async openLayer(diffID: string, signal?: AbortSignal, first?: ByteRange): Promise<LayerHandle> {
    const open = ({ source }: Opened<T>, range?: ByteRange) => source.openLayer(diffID, signal, range);
    let opened = await this.#open();
    let handle = Promise.resolve(
      await this.#renewing(opened, async (now) => {
        opened = now;
        return open(now, first);
      }),
    );
    // A renewal may come between a read and the end of its use.
    const lenders = new WeakMap<Uint8Array, LayerHandle>();
    return {
      size: (await handle).size,
      read: async (offset, length, readSignal) => {
        const used = { opened, handle };
        return this.#renewing(opened, async (now) => {
          // The first of the reads that were refused together opens the layer anew.
          if (now !== used.opened && handle === used.handle) {
            opened = now;
            handle = open(now, { offset, length });
          }
          const lender = await (now === used.opened ? used.handle : handle);
          const bytes = await lender.read(offset, length, readSignal);
          lenders.set(bytes, lender);
          return bytes;
        });
      },
      giveBack: (bytes) => lenders.get(bytes)?.giveBack?.(bytes),
      close: async () => (await handle).close(),
    };
  }

  async connect(): Promise<void> {
    await this.#renewing(await this.#open(), async ({ source }) => source.connect?.());
  }

  async close(): Promise<void> {
    this.#closed = true;
    const opened = await this.#opened?.catch(() => undefined);
    for (const timer of this.#replaced.values()) clearTimeout(timer);
    const all = [...this.#replaced.keys(), ...(opened === undefined ? [] : [opened.source])];
    await Promise.all(all.map((source) => source.close()));
  }

  /** Uses what is open, and once more what a renewal has brought, if the server refuses the first. */
  async #renewing<R>(opened: Opened<T>, use: (opened: Opened<T>) => Promise<R>): Promise<R> {
    try {
      return await use(opened);
    } catch (error) {
      if (!(error instanceof SourceError) || !REFUSALS.has(error.code)) throw error;
      const next = await this.#open(opened);
      if (next === opened) throw error;
      return use(next);
    }
  }

  /** What is open, opened first if nothing is; another one than `refused` where the registry has news. */
  async #open(refused?: Opened<T>): Promise<Opened<T>> {
    if (this.#closed) throw new SourceError('CLOSED', `the source ${this.location} is closed`);
    const before = this.#opened;
    const known = await before?.catch(() => undefined);
    if (known !== undefined && known !== refused) return known;
    // Of several that were refused together, one asks.
    if (this.#opened === before) {
      this.#opened = this.#next(known).catch((error) => {
        this.#opened = known === undefined ? undefined : before;
        throw error;
      });
    }
    return this.#opened ?? this.#open(refused);
  }

  async #next(known: Opened<T> | undefined): Promise<Opened<T>> {
    const transport = await this.#options.describe(known?.transport);
    if (known?.transport === transport) return known;
    const source = await this.#options.open(transport);
    if (known !== undefined) this.#retire(known.source);
    return { transport, source };
  }

  #retire(source: Source): void {
    const timer = setTimeout(() => {
      this.#replaced.delete(source);
      void source.close().catch(() => undefined);
    }, RETIREMENT_MS);
    this.#replaced.set(source, timer.unref());
  }
}
