/** The snapshotter as a proxy plugin of containerd: gRPC on a Unix socket that only root may use. */

import { mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import {
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { connectionRefusal } from '../runtime/unix-socket.js';
import { type Logger, log } from '../telemetry/logger.js';
import { newRequestId, withRequestId } from '../telemetry/request-id.js';
import {
  type CommitRequest,
  type CreateRequest,
  infoMessage,
  type KeyRequest,
  type ListRequest,
  requiredInfo,
  snapshotsService,
  type UpdateRequest,
} from './protocol.js';
import { SnapshotError, type SnapshotErrorCode } from './snapshot-error.js';
import type { Snapshotter } from './snapshotter.js';

/** At the end, after the last call; clients that leave by themselves are faster. */
const CLOSE_MS = 500;
const CLOSE_POLL_MS = 10;
/** Snapshots in one message of a list: with all their labels they stay far below gRPC's 4 MiB. */
const LIST_CHUNK = 100;

/**
 * UTF-16 units of an error's text, which may name a key of any length. It travels in a header: one that is longer than
 * 64 KiB, encoded, is never sent, and neither is one that is no well-formed text.
 */
const MAX_DETAILS = 4096;

const STATUS: Readonly<Record<SnapshotErrorCode, status>> = {
  NOT_FOUND: status.NOT_FOUND,
  ALREADY_EXISTS: status.ALREADY_EXISTS,
  INVALID_ARGUMENT: status.INVALID_ARGUMENT,
  FAILED_PRECONDITION: status.FAILED_PRECONDITION,
  UNAVAILABLE: status.UNAVAILABLE,
};

export interface SnapshotServer {
  /** Ends when the calls under way have been answered. */
  close(): Promise<void>;
}

/** Throws SnapshotError ALREADY_EXISTS when somebody else answers at the socket. */
export async function serveSnapshots(
  snapshotter: Snapshotter,
  socket: string,
  logger: Logger = log,
): Promise<SnapshotServer> {
  await mkdir(dirname(socket), { recursive: true, mode: 0o711 });
  if ((await connectionRefusal(socket)) === undefined) {
    throw new SnapshotError('ALREADY_EXISTS', `${socket}: another snapshotter serves there already`);
  }
  await rm(socket, { force: true });
  const server = new Server();
  const calls = new Set<object>();
  server.addService(snapshotsService(), handlers(snapshotter, logger, calls));
  const umask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      );
    });
  } finally {
    process.umask(umask);
  }
  return { close: () => close(server, calls) };
}

/**
 * tryShutdown never ends when a client is leaving at that moment (@grpc/grpc-js waits for a session that Node.js has
 * destroyed): so it is waited for while calls are under way, and a moment longer.
 */
async function close(server: Server, calls: ReadonlySet<object>): Promise<void> {
  let isClosed = false;
  server.tryShutdown(() => {
    isClosed = true;
  });
  for (let idle = 0; !isClosed && idle < CLOSE_MS; idle = calls.size > 0 ? 0 : idle + CLOSE_POLL_MS)
    await new Promise((resolve) => setTimeout(resolve, CLOSE_POLL_MS));
  server.forceShutdown();
}

/** `calls` has those that are under way. */
function handlers(snapshotter: Snapshotter, logger: Logger, calls: Set<object>) {
  const unary =
    <Request, Response>(action: (request: Request) => Response | Promise<Response>) =>
    async (call: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>) => {
      calls.add(call);
      try {
        callback(null, await withRequestId(newRequestId(), () => action(call.request)));
      } catch (error) {
        callback(grpcError(error, logger));
      } finally {
        calls.delete(call);
      }
    };
  return {
    Prepare: unary(async ({ key, parent, labels }: CreateRequest) => ({
      mounts: await snapshotter.prepare(key, parent, labels),
    })),
    View: unary(async ({ key, parent, labels }: CreateRequest) => ({
      mounts: await snapshotter.view(key, parent, labels),
    })),
    Mounts: unary(async ({ key }: KeyRequest) => ({ mounts: await snapshotter.mounts(key) })),
    Commit: unary(async ({ key, name, labels, parent }: CommitRequest) => {
      await snapshotter.commit(key, name, labels, parent);
      return {};
    }),
    Remove: unary(async ({ key }: KeyRequest) => {
      await snapshotter.remove(key);
      return {};
    }),
    Stat: unary(({ key }: KeyRequest) => ({ info: infoMessage(snapshotter.stat(key)) })),
    Update: unary(async (request: UpdateRequest) => ({
      info: infoMessage(await snapshotter.update(requiredInfo(request), request.updateMask?.paths ?? [])),
    })),
    Usage: unary(({ key }: KeyRequest) => snapshotter.usage(key)),
    Cleanup: unary(async () => {
      await snapshotter.cleanUp();
      return {};
    }),
    async List(call: ServerWritableStream<ListRequest, { info: object[] }>) {
      try {
        const found = snapshotter.list(call.request.filters).map(infoMessage);
        for (let at = 0; at < found.length; at += LIST_CHUNK) {
          call.write({ info: found.slice(at, at + LIST_CHUNK) });
        }
        call.end();
      } catch (error) {
        // A stream that is destroyed sends no status, and the client waits for ever.
        call.emit('error', grpcError(error, logger));
      }
    },
  };
}

function grpcError(error: unknown, logger: Logger): Error & { code: status; details: string } {
  const { message, stack } = error as Error;
  if (!(error instanceof SnapshotError)) logger.error(`snapshot request failed: ${stack ?? message}`);
  const code = error instanceof SnapshotError ? STATUS[error.code] : status.UNKNOWN;
  // Without the halves of surrogate pairs.
  const details = Buffer.from(message.slice(0, MAX_DETAILS)).toString();
  return Object.assign(new Error(message), { code, details });
}
