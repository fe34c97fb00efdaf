/** A block that somebody waits for, and how far each source has been tried for it. */
import type { CachedLayer } from './cached-layer.js';
import type { LayerSource } from './layer-source.js';

/** A block may arrive wrong once by accident; a source that has it wrong twice has it wrong. */
const CORRUPT_TRIES = 2;

/** More than a block is ever tried. */
const UNWELL = 1e6;

export type Choice = { source: LayerSource } | { waitUntil: number } | 'exhausted';

export class Want {
  readonly layer: CachedLayer;
  readonly block: number;
  readonly hurried: boolean;
  #deadline: number;
  #demanded: boolean;
  #demandedAt: number | undefined;
  readonly #tries = new Map<LayerSource, number>();
  readonly #corrupt = new Map<LayerSource, number>();
  readonly #excluded = new Set<LayerSource>();
  readonly #reasons = new Map<LayerSource, string>();

  constructor(
    layer: CachedLayer,
    block: number,
    deadline: number,
    {
      demanded = true,
      hurried = false,
    }: {
      /** Somebody waits for it; otherwise it is fetched in case somebody will. */
      demanded?: boolean;
      /** It has less time than others, since whoever asks has waited for it before. */
      hurried?: boolean;
    } = {},
  ) {
    this.layer = layer;
    this.block = block;
    this.hurried = hurried;
    this.#deadline = deadline;
    this.#demanded = demanded;
    if (demanded) this.#demandedAt = performance.now();
  }

  /** Of `performance.now()`: the readers get EIO then. */
  get deadline(): number {
    return this.#deadline;
  }

  get demanded(): boolean {
    return this.#demanded;
  }

  /** Of `performance.now()`: since when somebody waits for it. */
  get demandedAt(): number | undefined {
    return this.#demandedAt;
  }

  /** Somebody waits for it from now on. */
  demand(deadline: number): void {
    if (this.#demanded) return;
    this.#demanded = true;
    this.#demandedAt = performance.now();
    this.#deadline = deadline;
  }

  wasTried(source: LayerSource): boolean {
    return this.#tries.has(source);
  }

  /**
   * The source to ask now: of those that are well the least tried one, and of these the first in order; only where
   * none is well, one whose pause is over. The blobs, which cost a whole layer, are not begun while a better source
   * has merely stumbled.
   */
  choose(now: number): Choice {
    let best: LayerSource | undefined;
    let bestRank = Number.POSITIVE_INFINITY;
    let waitUntil: number | undefined;
    let stumbled: number | undefined;
    for (const source of this.layer.sources) {
      if (this.#excluded.has(source)) continue;
      const { usableAt, healthy, away } = source.state;
      if (usableAt > now) {
        waitUntil = Math.min(waitUntil ?? usableAt, usableAt);
        if (!away && Number.isFinite(usableAt)) stumbled = Math.min(stumbled ?? usableAt, usableAt);
        continue;
      }
      const tries = (this.#tries.get(source) ?? 0) + (source.avoidUntil > now ? 1 : 0);
      const rank = (healthy ? 0 : UNWELL) + tries;
      const isLastResort = source.state.source.kind === 'blob' && stumbled !== undefined;
      if (rank < bestRank && !isLastResort) {
        best = source;
        bestRank = rank;
      }
    }
    if (best !== undefined) return { source: best };
    return waitUntil === undefined ? 'exhausted' : { waitUntil };
  }

  failed(source: LayerSource, reason: string, retryable: boolean): void {
    this.#tries.set(source, (this.#tries.get(source) ?? 0) + 1);
    this.#reasons.set(source, reason);
    if (!retryable) this.#excluded.add(source);
  }

  corrupt(source: LayerSource): void {
    const times = (this.#corrupt.get(source) ?? 0) + 1;
    this.#corrupt.set(source, times);
    this.failed(source, 'what it gave does not match the block digest', times < CORRUPT_TRIES);
  }

  /** One `location: reason` for each source of the layer. */
  reasons(): string[] {
    return this.layer.sources.map((source) => {
      const { healthy, lastFailure } = source.state;
      const down =
        healthy || lastFailure === undefined ? undefined : `${lastFailure.code}, ${lastFailure.message}`;
      const late = source.isStream ? 'its stream has not come so far in time' : 'not tried in time';
      return `${source.state.source.location}: ${this.#reasons.get(source) ?? down ?? late}`;
    });
  }
}
