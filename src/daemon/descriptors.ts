/**
 * The descriptors that outlive the daemon, by name, and the process that holds them meanwhile: systemd or
 * orca-supervisor, who speak the same protocol (sd_listen_fds(3), sd_notify(3)).
 *
 * A daemon that becomes another program in place passes what it has itself, as ORCA_KEPT=FD=NAME:FD=NAME.
 */
import { notify, notifyBarrier, setCloseOnExec } from '../native/supervision.js';
import { type Logger, log } from '../telemetry/logger.js';

/** sd_listen_fds(3): SD_LISTEN_FDS_START. */
const FIRST = 3;
const MOST = 8192;
const BARRIER_MS = 5000;
const VARIABLES = ['LISTEN_FDS', 'LISTEN_FDNAMES', 'LISTEN_PID', 'ORCA_KEPT'] as const;

/** The name of the listening control socket. */
export const CONTROL = 'control';

export interface Descriptor {
  name: string;
  fd: number;
}

/** What this process was started with; asked once, since the variables are taken out of the environment. */
export function takeDescriptors(env: NodeJS.ProcessEnv = process.env): Descriptor[] {
  const { LISTEN_FDS, LISTEN_FDNAMES = '', LISTEN_PID, ORCA_KEPT } = env;
  for (const name of VARIABLES) delete env[name];
  const found: Descriptor[] = [];
  if (ORCA_KEPT !== undefined) {
    for (const part of ORCA_KEPT.split(':')) {
      const [fd, name] = part.split('=');
      if (name !== undefined && /^\d+$/.test(fd ?? '')) found.push({ name, fd: Number(fd) });
    }
  } else if (Number(LISTEN_PID) === process.pid) {
    const names = LISTEN_FDNAMES.split(':');
    const count = Math.min(MOST, Number(LISTEN_FDS) || 0);
    for (let i = 0; i < count; i++) found.push({ name: names[i] || 'unknown', fd: FIRST + i });
  }
  return found.filter(({ fd }) => {
    try {
      setCloseOnExec(fd, true);
      return true;
    } catch {
      return false;
    }
  });
}

/** How ORCA_KEPT says it; marks the descriptors to be inherited. */
export function keepOverExec(descriptors: readonly Descriptor[]): string {
  for (const { fd } of descriptors) setCloseOnExec(fd, false);
  return descriptors.map(({ name, fd }) => `${fd}=${name}`).join(':');
}

/** Where descriptors are stored. Without a supervisor nothing is, and mounts die with this process. */
export class DescriptorStore {
  readonly #socket: string | undefined;
  readonly #log: Logger;

  constructor(socket: string | undefined, logger: Logger = log) {
    this.#socket = socket;
    this.#log = logger;
  }

  get supervised(): boolean {
    return this.#socket !== undefined;
  }

  /** What a program that takes this one's place has to be told. */
  get environment(): Record<string, string> {
    return this.#socket === undefined ? {} : { NOTIFY_SOCKET: this.#socket };
  }

  /** Not polled for its end (FDPOLL=0): the kernel would wake the supervisor at every request of the mount. */
  store(name: string, fd: number): void {
    this.#send(`FDSTORE=1\nFDNAME=${name}\nFDPOLL=0`, [fd]);
  }

  forget(name: string): void {
    this.#send(`FDSTOREREMOVE=1\nFDNAME=${name}`);
  }

  /** `command` is what to start after this process, if it is not that of the beginning. */
  ready(command: readonly string[] = []): void {
    // systemd leaves alone what begins with X_.
    this.#send(['READY=1', ...command.map((argument) => `X_ORCA_ARGUMENT=${argument}`)].join('\n'));
  }

  /** Returns when all of the above has been worked on. */
  barrier(): void {
    if (this.#socket === undefined) return;
    try {
      notifyBarrier(this.#socket, BARRIER_MS);
    } catch (error) {
      this.#log.warn('the supervisor does not answer', { error: error as Error });
    }
  }

  #send(text: string, descriptors: readonly number[] = []): void {
    if (this.#socket === undefined) return;
    try {
      notify(this.#socket, text, descriptors);
    } catch (error) {
      this.#log.warn('the supervisor cannot be told: a crash of the daemon would end its mounts', {
        error: error as Error,
      });
    }
  }
}
