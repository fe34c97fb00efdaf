/** Images of a registry that is still expanding them. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import { type ImageRequest, openImage } from '../../src/mount/open-image.js';
import { FakeRegistry } from '../oci/fake-registry.js';
import { archive, member } from '../tar/archive.js';

interface Context {
  registry: FakeRegistry;
  directory: string;
  cache: BlockCache;
}

const test = anyTest as TestFn<Context>;

test.beforeEach(async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'orca-open-image-'));
  const registry = await FakeRegistry.start();
  const cache = await BlockCache.open(join(directory, 'cache'), { limit: 256 << 20 });
  t.context = { registry, directory, cache };
  registry.addImage('1', [gzipSync(archive(member({ name: 'file' }, 'content')))]);
  const layers = [{ status: 'expanding' }];
  registry.fault = (request, response) => {
    if (!request.url?.startsWith('/mount/')) return false;
    response.writeHead(409, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ errors: [{ code: 'EXPANDING', detail: { layers } }] }));
    return true;
  };
});

test.afterEach.always(async (t) => {
  const { registry, cache, directory } = t.context;
  await registry.stop();
  cache.close();
  await rm(directory, { recursive: true });
});

function open(t: ExecutionContext<Context>, request: Partial<ImageRequest> = {}) {
  const { registry, cache } = t.context;
  return openImage({ image: `${registry.host}/app:1`, ...request }, cache);
}

test('the host does not wait for it, says why it serves from blobs, and takes the share when it comes', async (t) => {
  const opened = await open(t);
  t.regex(
    opened.served,
    /^served by blobs of .* \(blob, because .* is still expanding it \(0 of 1 layers are done\)\)$/,
  );
  t.deepEqual(
    opened.sources.map(({ kind }) => kind),
    ['smb', 'blob'],
  );
  const { devices } = opened.image;
  const error = await t.throwsAsync<Error & { code?: string }>(
    opened.sources[0]?.openLayer(devices[0]?.diffID ?? '') as Promise<unknown>,
  );
  t.is(error?.code, 'UNREACHABLE');
  await opened.close();
});

test('the share that is looked out for is one of the transports that may be used', async (t) => {
  for (const [transports, kinds] of [
    [
      ['https', 'blob'],
      ['https', 'blob'],
    ],
    [['blob'], ['blob']],
  ] as const) {
    const opened = await open(t, { transports });
    t.deepEqual(
      opened.sources.map(({ kind }) => kind),
      [...kinds],
    );
    await opened.close();
  }
});

test('where blobs are not to be used it is refused when the wait is over', async (t) => {
  const error = await t.throwsAsync<Error & { code?: string }>(open(t, { transports: ['smb'], wait: 300 }));
  t.is(error?.code, 'EXPANDING');
});
