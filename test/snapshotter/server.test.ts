import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentials, makeGenericClientConstructor, type ServiceError, status } from '@grpc/grpc-js';
import test from 'ava';
import { snapshotsService } from '../../src/snapshotter/protocol.js';
import { serveSnapshots } from '../../src/snapshotter/server.js';
import { Snapshotter } from '../../src/snapshotter/snapshotter.js';

interface Snapshots {
  List(request: { filters: string[] }): NodeJS.ReadableStream;
  Stat(request: { key: string }, callback: (error: { code: number } | null) => void): void;
  close(): void;
}

test('the server ends, also when its clients leave at that moment', async (t) => {
  const Client = makeGenericClientConstructor(snapshotsService(), 'Snapshots');
  const root = await mkdtemp(join(tmpdir(), 'orca-snapshots-server-'));
  t.teardown(() => rm(root, { recursive: true, force: true }));
  for (let times = 0; times < 20; times++) {
    const socket = join(root, `${times}.sock`);
    const server = await serveSnapshots(await Snapshotter.open({ root: join(root, 'root') }), socket);
    const clients = Array.from({ length: 4 }, () => {
      return new Client(`unix:${socket}`, credentials.createInsecure()) as unknown as Snapshots;
    });
    await Promise.all(
      clients.map(
        (client) =>
          new Promise<void>((resolve) =>
            client.Stat({ key: 'none' }, (error) => resolve(t.is(error?.code, 5) as never)),
          ),
      ),
    );
    const leaving = clients.map(async (client, index) => {
      for (let turns = 0; turns < index + times; turns++)
        await new Promise((resolve) => setImmediate(resolve));
      client.close();
    });
    await Promise.all([server.close(), ...leaving]);
  }
  t.pass();
});

test('a request that fails is answered, whatever it names', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'orca-snapshots-server-'));
  t.teardown(() => rm(root, { recursive: true, force: true }));
  const socket = join(root, 'socket');
  const server = await serveSnapshots(await Snapshotter.open({ root: join(root, 'root') }), socket);
  const Client = makeGenericClientConstructor(snapshotsService(), 'Snapshots');
  const client = new Client(`unix:${socket}`, credentials.createInsecure()) as unknown as Snapshots;
  for (const key of [
    'none',
    'k'.repeat(1 << 20),
    '\u{1f600}'.repeat(1 << 18),
    `k${'\u{1f600}'.repeat(1 << 18)}`,
  ]) {
    const code = await new Promise((resolve) => client.Stat({ key }, (error) => resolve(error?.code)));
    t.is(code, status.NOT_FOUND);
  }
  for (const filter of ['name==', 'k '.repeat(1 << 18)]) {
    const code = await new Promise((resolve) =>
      client
        .List({ filters: [filter] })
        .on('error', (error) => resolve((error as ServiceError).code))
        .resume(),
    );
    t.is(code, status.INVALID_ARGUMENT);
  }
  client.close();
  await server.close();
});
