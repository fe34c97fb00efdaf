/** A blob that one thread has and another reads, over a message port; the reader asks, so nothing piles up. */
import { once } from 'node:events';
import type { MessagePort } from 'node:worker_threads';
import { decodeError, encodeError, type FromBlob, type ToBlob } from './worker-messages.js';

/** Chunks that are on their way, of some 64 KiB each. */
const AHEAD = 8;

/** Serves the chunks of `blob` until it ends or the port is closed. Resolves then. */
export async function serveBlob(blob: AsyncIterable<Uint8Array>, port: MessagePort): Promise<void> {
  const chunks = blob[Symbol.asyncIterator]();
  let last: Promise<unknown> = Promise.resolve();
  let ended = false;
  const send = (message: FromBlob) => {
    if (!('chunk' in message)) ended = true;
    port.postMessage(message);
  };
  const next = async () => {
    if (ended) return;
    try {
      const { done, value } = await chunks.next();
      send(done ? { end: true } : { chunk: value });
    } catch (error) {
      send({ error: encodeError(error) });
    }
  };
  port.on('message', (_: ToBlob) => {
    last = last.then(next);
  });
  await once(port, 'close');
  ended = true;
  await last;
  await chunks.return?.();
}

/** The other end. Throws what the blob threw, as an ExpansionError. */
export async function* readBlob(port: MessagePort): AsyncGenerator<Uint8Array, void, void> {
  const ask = () => port.postMessage('next' satisfies ToBlob);
  const arrived: FromBlob[] = [];
  let wake: (() => void) | undefined;
  port.on('message', (message: FromBlob) => {
    arrived.push(message);
    wake?.();
  });
  try {
    for (let i = 0; i < AHEAD; i++) ask();
    for (;;) {
      const message = arrived.shift();
      if (message === undefined) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        continue;
      }
      if ('error' in message) throw decodeError(message.error);
      if ('end' in message) return;
      yield message.chunk;
      ask();
    }
  } finally {
    port.close();
  }
}
