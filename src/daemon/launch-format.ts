/**
 * What native/launcher and the daemon say to each other about `orca run`: fields that end with a NUL each, since the
 * launcher is to need no JSON. The launcher sends a LaunchRequest and runs what it is told; the words of the command
 * line are understood by the daemon, with the code that `orca run` itself has.
 *
 *   POST /v1/launch             request:  version, file tree, working directory, name of the lock, open files,
 *                                         terminals ("101": stdin and stderr are), rows, columns,
 *                                         count, words after `orca`, count, environment
 *                               answer:   "decline" | "fail", exit code, text
 *                                         | "run", text, id, directory, "1" with stdin, "1" with a terminal, count, program and arguments
 *   POST /v1/launch/ID/end      request:  exit code of runc
 *                               answer:   "end", exit code, text
 *
 * Text is for stderr, whole lines. Every answer ends with the field "." so that one that breaks off is noticed.
 */
import { DaemonError } from './daemon-error.js';

export const MAX_LAUNCH_BYTES = 4 << 20;
const MAX_FIELDS = 65_536;
const LOCK_NAME = /^[0-9a-f]{32}$/;

export interface LaunchRequest {
  /** Of the launcher's package. */
  version: string;
  /** As `fileTree` of order.ts says it. */
  fileTree: string;
  directory: string;
  /** In RUN/launch. */
  lock: string;
  openFiles: number;
  terminals: [boolean, boolean, boolean];
  /** Zeros without a terminal. */
  consoleSize: { height: number; width: number };
  words: string[];
  environment: Record<string, string>;
}

export type LaunchAnswer =
  | { kind: 'decline' }
  | { kind: 'fail'; exitCode: number; text: string }
  | { kind: 'end'; exitCode: number; text: string }
  | {
      kind: 'run';
      text: string;
      id: string;
      directory: string;
      stdin: boolean;
      terminal: boolean;
      command: string[];
    };

/** Throws DaemonError INVALID_REQUEST. */
export function parseLaunchRequest(body: Buffer): LaunchRequest {
  const fields = new Fields(body);
  const [version, fileTree, directory, lock] = [fields.text(), fields.text(), fields.text(), fields.text()];
  if (!directory.startsWith('/') || !LOCK_NAME.test(lock)) throw malformed();
  const openFiles = fields.number();
  const terminals = fields.text();
  if (!/^[01]{3}$/.test(terminals)) throw malformed();
  const is = (place: number) => terminals[place] === '1';
  const consoleSize = { height: fields.number(), width: fields.number() };
  const words = fields.list();
  const environment: Record<string, string> = {};
  for (const line of fields.list()) {
    const equals = line.indexOf('=');
    // As getenv(3): the first of a name counts.
    if (equals > 0) environment[line.slice(0, equals)] ??= line.slice(equals + 1);
  }
  fields.end();
  return {
    ...{ version, fileTree, directory, lock, openFiles },
    terminals: [is(0), is(1), is(2)],
    ...{ consoleSize, words, environment },
  };
}

/** The exit code of runc. Throws DaemonError INVALID_REQUEST. */
export function parseLaunchEnd(body: Buffer): number {
  const fields = new Fields(body);
  const exitCode = fields.number();
  fields.end();
  if (exitCode > 255) throw malformed();
  return exitCode;
}

export function formatLaunchAnswer(answer: LaunchAnswer): Buffer {
  return Buffer.from([...fieldsOf(answer), '.'].map((field) => `${field.replaceAll('\0', '')}\0`).join(''));
}

function fieldsOf(answer: LaunchAnswer): string[] {
  switch (answer.kind) {
    case 'decline':
      return ['decline'];
    case 'fail':
    case 'end':
      return [answer.kind, String(answer.exitCode), answer.text];
    case 'run': {
      const { text, id, directory, stdin, terminal, command } = answer;
      const flags = [stdin, terminal].map((flag) => (flag ? '1' : '0'));
      return ['run', text, id, directory, ...flags, String(command.length), ...command];
    }
  }
}

class Fields {
  readonly #fields: string[];
  #next = 0;

  constructor(body: Buffer) {
    if (body.length === 0 || body.at(-1) !== 0) throw malformed();
    this.#fields = body.toString('utf8', 0, body.length - 1).split('\0');
    if (this.#fields.length > MAX_FIELDS) throw malformed();
  }

  text(): string {
    const field = this.#fields[this.#next++];
    if (field === undefined) throw malformed();
    return field;
  }

  number(): number {
    const text = this.text();
    if (!/^\d{1,15}$/.test(text)) throw malformed();
    return Number(text);
  }

  list(): string[] {
    const count = this.number();
    if (count > this.#fields.length - this.#next) throw malformed();
    return Array.from({ length: count }, () => this.text());
  }

  end(): void {
    if (this.#next !== this.#fields.length) throw malformed();
  }
}

function malformed(): DaemonError {
  return new DaemonError('INVALID_REQUEST', 'the request of a launcher is malformed');
}
