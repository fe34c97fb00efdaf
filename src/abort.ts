/** Abort signals that many requests share. */
import { setMaxListeners } from 'node:events';

/** Calls `listener` when `signal` is aborted; the function it gives takes the listener away again. */
export function onAbort(signal: AbortSignal | undefined, listener: () => void): () => void {
  if (signal === undefined) return () => {};
  // Hundreds of reads may hang on one signal; Node would take that for a leak.
  setMaxListeners(0, signal);
  signal.addEventListener('abort', listener, { once: true });
  return () => signal.removeEventListener('abort', listener);
}

/** Settles as `promise` does, or rejects with the signal's reason as soon as it is aborted. */
export async function orAbort<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  promise.catch(() => {});
  signal.throwIfAborted();
  let forget = () => {};
  try {
    return await new Promise<T>((resolve, reject) => {
      forget = onAbort(signal, () => reject(signal.reason));
      promise.then(resolve, reject);
    });
  } finally {
    forget();
  }
}
