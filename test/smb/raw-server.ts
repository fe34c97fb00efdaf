/** A server on loopback that answers SMB with whatever a test wants. */
import { createServer, type Server, type Socket } from 'node:net';
import type { ExecutionContext } from 'ava';
import { HEADER, type Header } from '../../src/smb/header.js';

/**
 * Calls `onRequest` with the header of each packet's first request, a function that sends raw bytes, the socket, and the
 * packet.
 */
export async function rawServer(
  t: ExecutionContext,
  onRequest: (header: Header, send: (...bytes: Buffer[]) => void, socket: Socket, packet: Buffer) => void,
): Promise<number> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    let held = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      held = Buffer.concat([held, chunk]);
      while (held.length >= 4 && held.length >= 4 + held.readUInt32BE(0)) {
        const length = held.readUInt32BE(0);
        const packet = held.subarray(4, 4 + length);
        held = held.subarray(4 + length);
        onRequest(HEADER.decode(packet), (...bytes) => socket.write(Buffer.concat(bytes)), socket, packet);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as { port: number }).port;
}
