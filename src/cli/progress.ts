/**
 * Progress on stderr: one bar per item, redrawn in place, on a terminal; a line per finished item otherwise.
 *
 * Forty lines of our own, since that is all that is needed and the libraries for it are unmaintained (progress) or
 * take over the whole terminal (listr2, cli-progress).
 */
export interface ProgressItem {
  label: string;
  /** Bytes. */
  done: number;
  total: number;
  finished: boolean;
  /** What to say of it when it has finished, if not its size and rate. */
  note?: string;
}

const BAR_WIDTH = 24;
const REDRAW_MS = 100;

export class Progress {
  readonly #items = new Map<string, ProgressItem & { began: number; printed: boolean }>();
  readonly #stream: NodeJS.WriteStream;
  #drawnLines = 0;
  #drawnAt = 0;

  constructor(stream: NodeJS.WriteStream = process.stderr) {
    this.#stream = stream;
  }

  /** `key` is the item's identity. */
  update(key: string, item: ProgressItem): void {
    const known = this.#items.get(key);
    const now = performance.now();
    const state = { ...item, began: known?.began ?? now, printed: known?.printed ?? false };
    this.#items.set(key, state);
    if (this.#stream.isTTY) {
      if (item.finished || now - this.#drawnAt >= REDRAW_MS) this.#draw(now);
    } else if (item.finished && !state.printed) {
      state.printed = true;
      this.#stream.write(`${state.label}: ${summary(state, now)}\n`);
    }
  }

  /** Leaves the last state on the terminal. */
  end(): void {
    if (this.#stream.isTTY) this.#draw(performance.now());
  }

  #draw(now: number): void {
    this.#drawnAt = now;
    const up = this.#drawnLines > 0 ? `\u001b[${this.#drawnLines}A` : '';
    const columns = this.#stream.columns || 80;
    const lines = [...this.#items.values()].map(
      (item) => `\u001b[2K${line(item, now).slice(0, columns - 1)}\n`,
    );
    this.#drawnLines = lines.length;
    this.#stream.write(up + lines.join(''));
  }
}

function line(item: ProgressItem & { began: number }, now: number): string {
  if (item.finished) return `${item.label} ${summary(item, now)}`;
  const filled = item.total > 0 ? Math.min(BAR_WIDTH, Math.floor((BAR_WIDTH * item.done) / item.total)) : 0;
  return `${item.label} [${'#'.repeat(filled)}${'-'.repeat(BAR_WIDTH - filled)}] ${summary(item, now)}`;
}

function summary(item: ProgressItem & { began: number }, now: number): string {
  const seconds = Math.max((now - item.began) / 1000, 0.001);
  if (item.finished && item.note !== undefined) return item.note;
  const size = item.finished
    ? formatBytes(item.total)
    : `${formatBytes(item.done)} of ${formatBytes(item.total)}`;
  return `${size}, ${formatBytes(item.done / seconds)}/s`;
}

/** Decimal units, three digits: `999 B`, `1.23 MB`, `45.6 GB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? Math.round(value) : value.toPrecision(3)} ${units[unit]}`;
}
