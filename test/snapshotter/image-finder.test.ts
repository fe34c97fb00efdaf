import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import { ImageFinder } from '../../src/snapshotter/image-finder.js';

async function openCache(t: ExecutionContext): Promise<BlockCache> {
  const directory = await mkdtemp(join(tmpdir(), 'orca-finder-'));
  const cache = await BlockCache.open(directory, { limit: 1 << 30 });
  t.teardown(async () => {
    cache.close();
    await rm(directory, { recursive: true });
  });
  return cache;
}

test('an image whose registry does not answer is given up when the snapshotter ends', async (t) => {
  const sockets: Socket[] = [];
  const server = createServer((socket) => void sockets.push(socket)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const asked = once(server, 'connection');
  const ending = new AbortController();
  const finder = new ImageFinder(await openCache(t), {}, ending.signal);
  const finding = finder.find(`127.0.0.1:${port}/app:1`, undefined);
  await asked;
  ending.abort();
  await t.throwsAsync(finding, { code: 'UNAVAILABLE', message: /the snapshotter is ending, pull again/ });
});

test('an image that no registry has is told with the reason, and asked for once', async (t) => {
  const finder = new ImageFinder(await openCache(t), {});
  const first = finder.find('127.0.0.1:1/app:1', undefined);
  t.is(finder.find('127.0.0.1:1/app:1', undefined), first);
  t.regex(((await first) as { reason: string }).reason, /127\.0\.0\.1:1/);
});
