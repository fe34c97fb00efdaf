/** Keeps expansion from taking the last of the disk: what clients push needs room more than what can be made again. */
import { statfs } from 'node:fs/promises';
import { LayerError } from '../../layer/layer-error.js';

const LARGEST_RESERVE = 1 << 30;
const RESERVE_SHARE = 0.05;
/** Time enough to write some hundred megabytes. */
const CHECK_MS = 250;

/**
 * Runs `action` with a signal that is aborted with LayerError NO_SPACE, which is worth another attempt, when the file
 * system of `directory` has less room than the reserve: a twentieth, and 1 GiB at most.
 */
export async function withDiskReserve<T>(
  directory: string,
  signal: AbortSignal,
  action: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  await check(directory);
  const short = new AbortController();
  const timer = setInterval(() => {
    check(directory).catch((error: unknown) => short.abort(error));
  }, CHECK_MS);
  try {
    return await action(AbortSignal.any([signal, short.signal]));
  } finally {
    clearInterval(timer);
  }
}

async function check(directory: string): Promise<void> {
  const { bsize, blocks, bavail } = await statfs(directory);
  const reserve = Math.min(blocks * bsize * RESERVE_SHARE, LARGEST_RESERVE);
  if (bavail * bsize >= reserve) return;
  const message = `the disk of ${directory} has ${bavail * bsize} bytes left; expansion leaves it ${reserve}`;
  throw new LayerError('NO_SPACE', message);
}
