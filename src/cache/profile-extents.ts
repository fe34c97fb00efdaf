/** Ranges that runs have read, blocks of layers or pages of files, with when and by how many runs. */

export interface Extent {
  first: number;
  count: number;
  /** Milliseconds since the first READ. */
  time: number;
  /** Of the runs of a profile, how many read it. */
  seen: number;
}

/**
 * Extents without overlap, in the order of time. Where some overlap, the earliest time counts; `seen` says how many runs
 * have read what `a` and `b` of different runs (`sum`) or two extents of one run (`most`) have in common.
 */
export function flatten<T extends Extent>(
  extents: readonly T[],
  keyOf: (extent: T) => string | number,
  combine: 'sum' | 'most',
): T[] {
  const byKey = new Map<string | number, T[]>();
  for (const extent of extents) {
    const key = keyOf(extent);
    const others = byKey.get(key);
    if (others === undefined) byKey.set(key, [extent]);
    else others.push(extent);
  }
  const flat = [...byKey.values()].flatMap((list) => (list.length === 1 ? list : sweep(list, combine)));
  return flat.sort((a, b) => a.time - b.time);
}

/** Of one key. */
function sweep<T extends Extent>(extents: readonly T[], combine: 'sum' | 'most'): T[] {
  const sorted = extents.toSorted((a, b) => a.first - b.first);
  const bounds = [...new Set(sorted.flatMap(({ first, count }) => [first, first + count]))];
  bounds.sort((a, b) => a - b);
  const pieces: T[] = [];
  let open: T[] = [];
  let next = 0;
  for (const [index, first] of bounds.slice(0, -1).entries()) {
    open = open.filter((extent) => extent.first + extent.count > first);
    while (next < sorted.length && sorted[next]!.first === first) open.push(sorted[next++]!);
    if (open.length === 0) continue;
    const time = Math.min(...open.map((extent) => extent.time));
    const counts = open.map((extent) => extent.seen);
    const seen = combine === 'sum' ? counts.reduce((sum, count) => sum + count) : Math.max(...counts);
    const last = pieces.at(-1);
    const goesOn = last?.time === time && last.seen === seen && last.first + last.count === first;
    if (goesOn) last.count += bounds[index + 1]! - first;
    else pieces.push({ ...open[0]!, first, count: bounds[index + 1]! - first, time, seen });
  }
  return pieces;
}

/** Those that follow one another in time and in place, and that as many runs have read, as one with the time of the first. */
export function joined<T extends Extent>(extents: readonly T[], keyOf: (extent: T) => string | number): T[] {
  const result: T[] = [];
  for (const extent of extents) {
    const last = result.at(-1);
    const follows =
      last !== undefined &&
      last.first + last.count === extent.first &&
      last.seen === extent.seen &&
      keyOf(last) === keyOf(extent);
    if (follows) last.count += extent.count;
    else result.push({ ...extent });
  }
  return result;
}

/** As many of the first ones as have `most` together. */
export function upTo<T extends Extent>(extents: readonly T[], most: number): T[] {
  let left = most;
  const within = extents.findIndex(({ count }) => {
    left -= count;
    return left < 0;
  });
  return within < 0 ? [...extents] : extents.slice(0, within);
}
