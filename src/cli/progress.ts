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

type State = ProgressItem & { began: number; printed: boolean };

export class Progress {
  readonly #items = new Map<string, State>();
  readonly #stream: NodeJS.WriteStream;
  #bars = 0;
  #drawnAt = 0;

  constructor(stream: NodeJS.WriteStream = process.stderr) {
    this.#stream = stream;
  }

  /** `key` is the item's identity. */
  update(key: string, item: ProgressItem): void {
    const known = this.#items.get(key);
    const now = performance.now();
    this.#items.set(key, { ...item, began: known?.began ?? now, printed: known?.printed ?? false });
    if (item.finished || (this.#stream.isTTY && now - this.#drawnAt >= REDRAW_MS)) this.#draw(now);
  }

  /** Takes the bars off the terminal. */
  end(): void {
    this.#write(this.#erase());
    this.#bars = 0;
  }

  /** What has finished becomes a line that stays; below it are the bars of the others, as many as there is room for. */
  #draw(now: number): void {
    this.#drawnAt = now;
    let text = this.#erase();
    for (const item of this.#items.values()) {
      if (!item.finished || item.printed) continue;
      item.printed = true;
      text += `${item.label}: ${summary(item, now)}\n`;
    }
    const active = [...this.#items.values()].filter((item) => !item.finished);
    const bars = this.#stream.isTTY ? active.slice(0, (this.#stream.rows || 24) - 1) : [];
    const columns = this.#stream.columns || 80;
    this.#bars = bars.length;
    this.#write(text + bars.map((item) => `${bar(item, now).slice(0, columns - 1)}\n`).join(''));
  }

  /** Cursor to the first bar, everything below it cleared (ECMA-48: CPL, ED). */
  #erase(): string {
    return this.#bars > 0 ? `\u001b[${this.#bars}F\u001b[J` : '';
  }

  #write(text: string): void {
    if (text !== '') this.#stream.write(text);
  }
}

function bar(item: State, now: number): string {
  const filled = item.total > 0 ? Math.min(BAR_WIDTH, Math.floor((BAR_WIDTH * item.done) / item.total)) : 0;
  return `${item.label} [${'#'.repeat(filled)}${'-'.repeat(BAR_WIDTH - filled)}] ${summary(item, now)}`;
}

function summary(item: State, now: number): string {
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
