/**
 * The base of every error that Orca raises on purpose.
 *
 * Each folder declares one subclass (its failure family). `message` is the one line a user reads: it names the
 * thing that failed (path, digest, URL without secrets) and says what to do about it.
 */
export abstract class OrcaError extends Error {
  /** Stable machine-readable code, upper snake case, unique within the family: `NOT_FOUND`, `TIMEOUT`, … */
  readonly code: string;
  /** Whether the same call can succeed later without anybody changing anything. */
  readonly retryable: boolean;

  constructor(code: string, message: string, options: { cause?: unknown; retryable?: boolean } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.retryable = options.retryable ?? false;
  }
}
