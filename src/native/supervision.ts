/**
 * The daemon's door to the process that supervises it, and to becoming another program in place (execve).
 *
 * A failed system call throws an Error that has `code`, `errno` and `syscall`.
 */
import { createRequire } from 'node:module';
import { packageFile } from '../installation.js';
import { checkInteger, checkString, checkText, MAX_INT } from './check.js';

interface SupervisionBinding {
  notify(socket: string, text: string, descriptors: readonly number[]): void;
  notifyBarrier(socket: string, timeout: number): void;
  duplicate(descriptor: number): number;
  setCloseOnExec(descriptor: number, close: boolean): void;
  exitAtOnce(code: number): void;
  execute(file: string, args: readonly string[], environment: readonly string[]): void;
}

const binding = createRequire(import.meta.url)(packageFile('native/build/orca.node')) as SupervisionBinding;

/** The kernel passes no more with one message. */
const MAX_PASSED = 253;

/** One datagram to NOTIFY_SOCKET (sd_notify(3)); the descriptors stay open here. */
export function notify(socket: string, text: string, descriptors: readonly number[] = []): void {
  checkText(socket, 'socket');
  checkText(text, 'text');
  checkInteger(descriptors.length, 'number of descriptors', 0, MAX_PASSED);
  for (const descriptor of descriptors) checkInteger(descriptor, 'descriptor', 0, MAX_INT);
  binding.notify(socket, text, descriptors);
}

/** Waits, in this thread, until the supervisor has worked on all that was sent; ETIMEDOUT after `timeout` ms. */
export function notifyBarrier(socket: string, timeout: number): void {
  checkText(socket, 'socket');
  checkInteger(timeout, 'timeout', 0, MAX_INT);
  binding.notifyBarrier(socket, timeout);
}

/** Another descriptor of the same open file. */
export function duplicate(descriptor: number): number {
  checkInteger(descriptor, 'descriptor', 0, MAX_INT);
  return binding.duplicate(descriptor);
}

/** Whether execve and spawned programs lose a descriptor. */
export function setCloseOnExec(descriptor: number, close: boolean): void {
  checkInteger(descriptor, 'descriptor', 0, MAX_INT);
  binding.setCloseOnExec(descriptor, close);
}

/**
 * _exit(2): ends the process without closing sessions, which would answer the READs that wait with EIO. Whoever holds
 * the descriptors goes on.
 */
export function exitAtOnce(code: number): never {
  checkInteger(code, 'code', 0, 255);
  binding.exitAtOnce(code);
  throw new Error('_exit returned');
}

/** Becomes another program, with the same pid and the descriptors that are not close-on-exec. Returns only by throwing. */
export function execute(
  file: string,
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): never {
  checkText(file, 'file');
  for (const argument of args) checkString(argument, 'argument');
  const variables = Object.entries(environment).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`],
  );
  binding.execute(file, args, variables);
  throw new Error('execve returned');
}
