/** At most so many at the same time; the others wait their turn. */
export class Limit {
  private readonly waiting: (() => void)[] = [];
  private free: number;

  constructor(width: number) {
    this.free = width;
  }

  async run<T>(action: () => Promise<T>): Promise<T> {
    if (this.free > 0) this.free--;
    else await new Promise<void>((resolve) => this.waiting.push(resolve));
    try {
      return await action();
    } finally {
      const next = this.waiting.shift();
      if (next === undefined) this.free++;
      else next();
    }
  }
}
