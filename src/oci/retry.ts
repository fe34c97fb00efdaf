/** Trying again what may succeed later, at the pace that the server asks for. */
import { setTimeout as sleep } from 'node:timers/promises';
import { OrcaError } from '../errors.js';
import { RegistryError } from './registry-error.js';

/** Waits between attempts begin here and double. */
const FIRST_PAUSE_MS = 200;
/** What a server asks for beyond this is told to the caller instead of waited for. */
const LONGEST_WAIT_MS = 30_000;

/** Calls `attempt` up to `attempts` times while it throws what is retryable; throws the last error. */
export async function withRetries<T>(
  attempts: number,
  signal: AbortSignal | undefined,
  attempt: () => Promise<T>,
): Promise<T> {
  for (let failures = 1; ; failures++) {
    try {
      return await attempt();
    } catch (error) {
      if (failures >= attempts) throw error;
      await pauseAfter(error, failures, signal);
    }
  }
}

/** Waits before attempt number `failures` + 1; throws `error` when there is no use in waiting. */
export async function pauseAfter(
  error: unknown,
  failures: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  signal?.throwIfAborted();
  if (!(error instanceof OrcaError) || !error.retryable) throw error;
  const asked = error instanceof RegistryError ? (error.retryAfter ?? 0) : 0;
  if (asked > LONGEST_WAIT_MS) throw error;
  // With jitter, so that hosts that failed together do not come back together.
  const pause = FIRST_PAUSE_MS * 2 ** (failures - 1) * (0.5 + Math.random() / 2);
  await sleep(Math.max(pause, asked), undefined, signal === undefined ? {} : { signal }).catch(
    () => undefined,
  );
  signal?.throwIfAborted();
}
