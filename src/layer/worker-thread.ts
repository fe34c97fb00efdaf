/** The other side of worker-pool.ts: a thread that does one task at a time. */
import { createReadStream } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { readBlob } from './blob-port.js';
import { PassedBuffers } from './passed-buffers.js';
import { type BlobInput, encodeError, type FromWorker, type ToWorker } from './worker-messages.js';

const READ_BYTES = 256 << 10;
/** Milliseconds between two reports of progress. */
const REPORT_MS = 100;

/** Runs each task that comes; the signal is aborted when nobody waits for it any more. */
export function serveTasks<Task, Result>(
  run: (task: Task, input: BlobInput | undefined, signal: AbortSignal) => Promise<Result>,
): void {
  let stop = new AbortController();
  const post = (message: FromWorker<Result>) => parentPort?.postMessage(message, buffersOf(message));
  parentPort?.on('message', (message: ToWorker<Task>) => {
    if (message.kind === 'abort') {
      stop.abort();
      return;
    }
    stop = new AbortController();
    run(message.task, message.input, stop.signal).then(
      (result) => post({ kind: 'done', result }),
      (error: unknown) => post({ kind: 'failed', error: encodeError(error) }),
    );
  });
}

/** The memory of the documents that a result consists of, which the other thread gets instead of copies. */
function buffersOf(message: FromWorker<unknown>): ArrayBuffer[] {
  if (message.kind !== 'done') return [];
  return Object.values(message.result ?? {}).flatMap((part) =>
    part instanceof Uint8Array && part.length === part.buffer.byteLength ? (part.buffer as ArrayBuffer) : [],
  );
}

/** Tells the pool now and then how many bytes of the blob have been read. */
export function progressReporter(): (bytesIn: number) => void {
  let reported = 0;
  return (bytesIn) => {
    const now = performance.now();
    if (now - reported < REPORT_MS) return;
    reported = now;
    parentPort?.postMessage({ kind: 'progress', bytesIn } satisfies FromWorker<never>);
  };
}

/** The blob of a task. Throws what its file, or the thread that has it, throws. */
export async function* inputBytes(input: BlobInput | undefined): AsyncGenerator<Uint8Array, void, void> {
  const passed = new PassedBuffers();
  for await (const chunk of chunksOf(input)) {
    yield chunk;
    passed.add(chunk.length);
  }
}

async function* chunksOf(input: BlobInput | undefined): AsyncGenerator<Uint8Array, void, void> {
  if (input === undefined) throw new TypeError('a task without a blob');
  if ('port' in input) yield* readBlob(input.port);
  else
    for await (const chunk of createReadStream(input.path, { highWaterMark: READ_BYTES }))
      yield chunk as Buffer;
}
