/** A blob that one thread has and another reads, over a message port; the reader asks, so nothing piles up. */
import { once } from 'node:events';
import type { MessagePort } from 'node:worker_threads';
import { PassedBuffers } from './passed-buffers.js';
import { decodeError, ExpansionError, encodeError, type FromBlob, type ToBlob } from './worker-messages.js';

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
  // Of a part, the whole buffer would be copied.
  const passed = new PassedBuffers();
  const sendChunk = (chunk: Uint8Array) => {
    passed.add(chunk.length);
    if (chunk.length === chunk.buffer.byteLength) return send({ chunk });
    const copy = new Uint8Array(chunk);
    port.postMessage({ chunk: copy } satisfies FromBlob, [copy.buffer]);
  };
  const next = async () => {
    if (ended) return;
    try {
      const { done, value } = await chunks.next();
      if (done) send({ end: true });
      else sendChunk(value);
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
  let closed = false;
  let wake: (() => void) | undefined;
  port.on('message', (message: FromBlob) => {
    arrived.push(message);
    wake?.();
  });
  port.on('close', () => {
    closed = true;
    wake?.();
  });
  try {
    for (let i = 0; i < AHEAD; i++) ask();
    for (;;) {
      const message = arrived.shift();
      if (message === undefined) {
        if (closed) throw new ExpansionError('CLOSED', 'the other thread has ended');
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
