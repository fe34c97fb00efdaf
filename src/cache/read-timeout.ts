/** Bounds a read from a source in time, whatever the source does. */
import { SourceError } from '../source/source.js';

/**
 * Runs a read that is aborted after `milliseconds` (SourceError TIMEOUT), or with `outer`. One that ignores its signal
 * is left behind.
 */
export async function withTimeout<T>(
  milliseconds: number,
  outer: AbortSignal,
  read: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  let abort: (reason: unknown) => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    abort = (reason) => {
      controller.abort(reason);
      reject(reason);
    };
  });
  const onOuter = () => abort(outer.reason);
  outer.addEventListener('abort', onOuter, { once: true });
  const seconds = Math.round(milliseconds / 1000);
  const timer = setTimeout(
    () => abort(new SourceError('TIMEOUT', `no answer within ${seconds} s`, { retryable: true })),
    milliseconds,
  );
  try {
    if (outer.aborted) throw outer.reason;
    return await Promise.race([read(controller.signal), aborted]);
  } finally {
    clearTimeout(timer);
    outer.removeEventListener('abort', onOuter);
  }
}
