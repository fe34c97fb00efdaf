/** Several tasks at the same time, none of which outlives the failure of another. */

/**
 * Runs the task for all items, `width` at a time. The first that fails stops the others through their signal, and
 * its error is thrown once all have ended.
 */
export async function inParallel<T>(
  items: readonly T[],
  width: number,
  signal: AbortSignal | undefined,
  task: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const either = AbortSignal.any([stop.signal, ...(signal === undefined ? [] : [signal])]);
  const failures: unknown[] = [];
  const queue = items.values();
  const work = async () => {
    for (const item of queue) {
      if (either.aborted) return;
      await task(item, either).catch((error) => {
        failures.push(error);
        stop.abort();
      });
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, Math.min(width, items.length)) }, work));
  if (failures.length > 0) throw failures[0];
  signal?.throwIfAborted();
}
