/** Mutual exclusion within the process, by name; a name costs memory only while somebody holds or wants it. */
export class KeyedLock {
  private readonly tails = new Map<string, Promise<void>>();

  /** Runs `action` when all that were asked for before under the same name have ended. Does not nest. */
  async holding<T>(name: string, action: () => Promise<T>): Promise<T> {
    const before = this.tails.get(name);
    let release!: () => void;
    const mine = new Promise<void>((resolve) => {
      release = resolve;
    });
    this.tails.set(name, mine);
    await before;
    try {
      return await action();
    } finally {
      release();
      if (this.tails.get(name) === mine) this.tails.delete(name);
    }
  }
}
