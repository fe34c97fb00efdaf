/** Whether somebody listens at a Unix socket. */
import { connect } from 'node:net';

/**
 * Undefined when a connection is accepted; otherwise why not: an errno, or what the message says. `timeout` in
 * milliseconds; without it the kernel decides.
 */
export function connectionRefusal(path: string, timeout?: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path);
    if (timeout !== undefined) socket.setTimeout(timeout, () => socket.destroy(new Error('no answer')));
    socket.on('connect', () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}
