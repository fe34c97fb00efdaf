/**
 * What signals to `orca run` do: before the container runs they end the start; then they are passed on.
 *
 * The first process of a pid namespace ignores every signal that it has no handler for, so that Ctrl-C would do
 * nothing to a plain `sleep`. Here a signal that asks to end, and that the container neither catches nor ignores,
 * ends it, as it would end the same program outside; and the third such signal ends it whatever it does.
 *
 * A signal that comes before the container has its first process waits for that: runc would lose it, or die of it.
 */
import { readFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { log } from '../telemetry/logger.js';
import { ENDING_SIGNALS, InterruptedError, signalStatus } from './interruption.js';
import type { RuncProcess } from './runc.js';

const OTHERS = ['SIGUSR1', 'SIGUSR2', 'SIGWINCH', 'SIGCONT'] as const;
const INSISTENCE = 3;

type Relayed = (typeof ENDING_SIGNALS)[number] | (typeof OTHERS)[number];

export class SignalRelay {
  readonly #starting = new AbortController();
  readonly #listeners: [Relayed, () => void][];
  #process: RuncProcess | undefined;
  #count = 0;
  #killedBy: NodeJS.Signals | undefined;
  /** The end of the last signal's way: they arrive in their order. */
  #last: Promise<void> = Promise.resolve();

  constructor() {
    this.#listeners = [...ENDING_SIGNALS, ...OTHERS].map((signal) => [signal, () => this.#receive(signal)]);
    for (const [signal, listener] of this.#listeners) process.on(signal, listener);
  }

  /** Aborted, with an InterruptedError as reason, by a signal that comes before `passTo`. */
  get starting(): AbortSignal {
    return this.#starting.signal;
  }

  /** From now on signals go to the container. */
  passTo(process: RuncProcess): void {
    this.#process = process;
  }

  /** The exit code, when it was us who killed the container for a signal. */
  get exitCode(): number | undefined {
    return this.#killedBy === undefined ? undefined : signalStatus(this.#killedBy);
  }

  close(): void {
    for (const [signal, listener] of this.#listeners) process.off(signal, listener);
  }

  #receive(signal: Relayed): void {
    const ending = (ENDING_SIGNALS as readonly string[]).includes(signal);
    if (ending) this.#count += 1;
    const container = this.#process;
    if (container !== undefined) {
      const insists = this.#count >= INSISTENCE;
      this.#last = this.#last.then(() => this.#pass(container, signal, ending, insists));
    } else if (ending) {
      this.#starting.abort(new InterruptedError(signal));
    }
  }

  async #pass(container: RuncProcess, signal: Relayed, ending: boolean, insists: boolean): Promise<void> {
    const pid = await container.awaitInit();
    if (ending && pid !== undefined && (insists || (await isDefault(pid, signal)))) {
      log.debug('ending the container', { signal, pid });
      this.#killedBy ??= signal;
      kill(pid);
    } else {
      container.signal(signal);
    }
  }
}

/** True when the process has neither a handler for the signal nor ignores it (proc_pid_status(5)). */
async function isDefault(pid: number, signal: NodeJS.Signals): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const bit = 1n << BigInt(constants.signals[signal] - 1);
  const masks = [...status.matchAll(/^Sig(?:Ign|Cgt):\s*([0-9a-f]+)$/gm)].map((match) =>
    BigInt(`0x${match[1]}`),
  );
  return masks.length === 2 && masks.every((mask) => (mask & bit) === 0n);
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {}
}
