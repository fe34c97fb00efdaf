/** Signals that end a command in an orderly way, before or without a container. */
import { constants } from 'node:os';
import { RuntimeError } from './runtime-error.js';

export const ENDING_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

/** The exit code by which shells report a death by signal. */
export function signalStatus(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

export class InterruptedError extends RuntimeError {
  readonly exitCode: number;

  constructor(signal: NodeJS.Signals) {
    super('INTERRUPTED', `interrupted by ${signal}`);
    this.exitCode = signalStatus(signal);
  }
}

/** Aborted, with an InterruptedError as reason, by the first ending signal; until `close`. */
export class Interruption {
  readonly #controller = new AbortController();
  readonly #listeners = ENDING_SIGNALS.map(
    (signal) => [signal, () => this.#controller.abort(new InterruptedError(signal))] as const,
  );

  constructor() {
    for (const [signal, listener] of this.#listeners) process.on(signal, listener);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  close(): void {
    for (const [signal, listener] of this.#listeners) process.off(signal, listener);
  }
}
