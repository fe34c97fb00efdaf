/** Which failures are worth another attempt, and when. */
import { OrcaError } from '../../errors.js';

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 5 * 60_000;
/** Of a failure that nobody expects: a thread that broke, or a defect of this program. */
const ATTEMPTS_AT_THE_UNEXPECTED = 3;

/** Not of the data but of the machine: a disk that is full or fails, memory or descriptors that are short. */
const OF_THE_MACHINE = new Set(['NO_SPACE', 'READ_ONLY', 'IO', 'WRITE_FAILED']);

/** Whether the same can succeed later without anybody changing the image. `attempts`: how many have failed. */
export function isTransient(error: unknown, attempts: number): boolean {
  if (error instanceof OrcaError) {
    if (error.retryable || OF_THE_MACHINE.has(error.code) || isErrno(error.code)) return true;
    return isUnexpected(error.code) && attempts < ATTEMPTS_AT_THE_UNEXPECTED;
  }
  const { syscall, code } = error as NodeJS.ErrnoException;
  return syscall !== undefined || isErrno(code) || attempts < ATTEMPTS_AT_THE_UNEXPECTED;
}

function isErrno(code: string | undefined): boolean {
  return code !== undefined && /^E[A-Z0-9]+$/.test(code);
}

function isUnexpected(code: string): boolean {
  return code === 'CRASHED' || code === 'UNEXPECTED' || code.startsWith('ERR_');
}

/** Milliseconds before the next attempt, of which half is chance. */
export function pauseAfter(attempts: number): number {
  const longest = Math.min(FIRST_PAUSE_MS * 2 ** Math.min(attempts - 1, 20), LONGEST_PAUSE_MS);
  return longest * (0.5 + Math.random() / 2);
}

export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.length > 1000 ? `${text.slice(0, 1000)}…` : text;
}
