/**
 * Sends parts of a file as the body of a response: two buffers, one read from the disk while the other is written to
 * the socket, used again and again. A stream costs three times the processor time, most of it for new buffers.
 */
import type { FileHandle } from 'node:fs/promises';
import type { FastifyReply } from 'fastify';
import { log } from '../telemetry/logger.js';
import type { ByteRange } from './range.js';

/** Of one buffer: large while few downloads run, small enough for thousands at once. */
const BUFFER_BYTES = 1 << 20;
const SMALL_BUFFER_BYTES = 1 << 17;
const FEW = 64;

let running = 0;

/** A part of the file, or bytes that stand between two of them. */
export type Segment = ByteRange | Uint8Array;

/**
 * Sends the segments, with the status and headers that the reply has; closes the file. A client that takes nothing
 * for `stallTimeout` milliseconds is cut off.
 */
export async function sendFile(
  reply: FastifyReply,
  file: FileHandle,
  segments: readonly Segment[],
  stallTimeout: number,
): Promise<FastifyReply> {
  const response = reply.raw;
  reply.hijack();
  running++;
  try {
    for (const [name, value] of Object.entries(reply.getHeaders())) {
      if (value !== undefined) response.setHeader(name, value);
    }
    response.setHeader(
      'content-length',
      segments.reduce((sum, one) => sum + lengthOf(one), 0),
    );
    response.writeHead(reply.statusCode);
    response.socket?.setTimeout(stallTimeout);
    const size = Math.min(
      running > FEW ? SMALL_BUFFER_BYTES : BUFFER_BYTES,
      Math.max(...segments.map(lengthOf)),
    );
    const slots = [slot(size), slot(size)] as const;
    let turn = 0;
    for (const segment of segments) {
      if (segment instanceof Uint8Array) {
        // What is small may wait in the socket's queue, before what is read next.
        response.write(segment);
        continue;
      }
      for (let position = segment.start; position < segment.end; ) {
        const current = slots[turn]!;
        turn = 1 - turn;
        await current.written;
        const length = Math.min(size, segment.end - position);
        const { bytesRead } = await file.read(current.buffer, 0, length, position);
        if (bytesRead === 0) throw new Error('the file is shorter than it was');
        position += bytesRead;
        current.written = new Promise((resolve, reject) => {
          response.write(current.buffer.subarray(0, bytesRead), (error) =>
            error ? reject(error) : resolve(),
          );
        });
        current.written.catch(() => undefined); // whoever waits for it next gets the error
      }
    }
    await Promise.all(slots.map(({ written }) => written));
    response.end();
  } catch (error) {
    log.debug('a response broke off', { error: error as Error });
    response.destroy();
  } finally {
    running--;
    await file.close();
  }
  return reply;
}

function lengthOf(segment: Segment): number {
  return segment instanceof Uint8Array ? segment.length : segment.end - segment.start;
}

/** A buffer, and when what it holds has left it. */
function slot(size: number): { buffer: Buffer; written: Promise<void> } {
  return { buffer: Buffer.allocUnsafeSlow(size), written: Promise.resolve() };
}
