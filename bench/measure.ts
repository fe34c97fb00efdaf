/** Measuring two sides in turn, so that what disturbs the machine disturbs both. */
import { writeFile } from 'node:fs/promises';

/** One side: a measurement in any unit, of one repetition. */
export type Side = () => Promise<number>;

/** Measures the sides in turn, `repetitions` times, after one round that does not count. Gives the medians. */
export async function interleaved<Name extends string>(
  sides: Record<Name, Side>,
  repetitions: number,
): Promise<Record<Name, number>> {
  const names = Object.keys(sides) as Name[];
  const results = new Map<Name, number[]>(names.map((name) => [name, []]));
  for (let round = -1; round < repetitions; round++) {
    // The order alternates, so that neither side always follows the other.
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const result = await sides[name]();
      if (round >= 0) results.get(name)!.push(result);
    }
  }
  return Object.fromEntries(names.map((name) => [name, median(results.get(name)!)])) as Record<Name, number>;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Seconds that it took. */
export async function seconds(action: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await action();
  return (performance.now() - began) / 1000;
}

/** Empties the kernel's page cache (1), dentries and inodes (2), or both (3), of the whole machine. */
export async function dropCaches(which: 1 | 2 | 3): Promise<void> {
  await writeFile('/proc/sys/vm/drop_caches', String(which));
}
