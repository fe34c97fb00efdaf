/** The service on an origin and workers that fail. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import anyTest, { type TestFn } from 'ava';
import { digestOf } from '../../../src/oci/digest.js';
import { OciError } from '../../../src/oci/oci-error.js';
import type { BlobOrigin } from '../../../src/registry/expansion/expansion.js';
import { ExpansionService } from '../../../src/registry/expansion/service.js';
import { StorageOrigin } from '../../../src/registry/expansion/storage-origin.js';
import { tarOf } from '../../oci/tar-file.js';
import { TestRegistry } from '../server-fixture.js';
import { layerOf, pushImage, settled } from './images.js';

const test = anyTest as TestFn<{ directory: string; registry: TestRegistry }>;
test.beforeEach(async (t) => {
  t.context.directory = mkdtempSync(join(tmpdir(), 'orca-expansion-'));
  t.context.registry = await TestRegistry.start();
});
test.afterEach.always(async (t) => {
  await t.context.registry.stop();
  rmSync(t.context.directory, { recursive: true, force: true });
});

/** An origin whose blobs come as streams, as those of an upstream do, with some of its methods replaced. */
function originOf(registry: TestRegistry, changes: Partial<BlobOrigin> = {}): BlobOrigin {
  const origin = new StorageOrigin(registry.registry.context.storage);
  const bound = {
    readManifest: origin.readManifest.bind(origin),
    blobSize: origin.blobSize.bind(origin),
    openBlob: origin.openBlob.bind(origin),
    tags: origin.tags.bind(origin),
    resolve: origin.resolve.bind(origin),
    storeArtifact: origin.storeArtifact.bind(origin),
    hasManifest: origin.hasManifest.bind(origin),
    removeArtifact: origin.removeArtifact.bind(origin),
  };
  return { ...bound, ...changes };
}

const away = () => new OciError('UNREACHABLE', 'the upstream is away', { retryable: true });

test('what fails for a while is tried again: manifests, blobs midway, artifacts', async (t) => {
  const { registry } = t.context;
  const digest = await pushImage(registry, 'app', 'v1', [layerOf('one', Buffer.alloc(500_000, 'x'))]);
  const { storage } = registry.registry.context;
  const real = new StorageOrigin(storage);
  const failures = new Map<string, number>();
  const once = (what: string) => {
    failures.set(what, (failures.get(what) ?? 0) + 1);
    return failures.get(what) === 1;
  };
  const origin = originOf(registry, {
    readManifest: async (repository, digest) => {
      if (once('manifest')) throw away();
      return real.readManifest(repository, digest);
    },
    async *openBlob(repository, descriptor) {
      for await (const chunk of real.openBlob(repository, descriptor)) {
        yield chunk.subarray(0, 100);
        if (descriptor.mediaType.includes('layer') && once('blob')) throw away();
        yield chunk.subarray(100);
      }
    },
    storeArtifact: async (...args) => {
      if (once('artifact'))
        throw Object.assign(new Error('no space left'), { code: 'ENOSPC', syscall: 'write' });
      return real.storeArtifact(...args);
    },
  });
  const service = await ExpansionService.open(storage.data, origin, { workers: 1 });
  await service.enqueue('app', digest, ['v1']);
  const status = await settled(service, 'app', digest);
  t.is(status.state, 'expanded');
  t.deepEqual([...failures.keys()].sort(), ['artifact', 'blob', 'manifest']);
  await service.close();
});

test('a blob that repositories have lost is not held to be bad for one that has it', async (t) => {
  const { registry } = t.context;
  const layer = layerOf('shared', Buffer.alloc(500_000, 'x'));
  const images = new Map<string, string>();
  for (const repository of ['loses', 'keeps', 'later'])
    images.set(repository, await pushImage(registry, repository, 'v1', [layer]));
  const { storage } = registry.registry.context;
  const real = new StorageOrigin(storage);
  const origin = originOf(registry, {
    async *openBlob(repository, descriptor) {
      if (repository !== 'later' && descriptor.digest === digestOf(layer.blob))
        throw new OciError('NOT_FOUND', 'the blob is gone');
      yield* real.openBlob(repository, descriptor);
    },
  });
  const service = await ExpansionService.open(storage.data, origin, { workers: 1 });
  t.teardown(() => service.close());
  for (const [repository, digest] of images) {
    await service.enqueue(repository, digest);
    const { state } = await settled(service, repository, digest);
    t.is(state, repository === 'later' ? 'expanded' : 'failed', repository);
  }
});

test('an origin whose bytes are not those of the digest fails for good', async (t) => {
  const { registry } = t.context;
  const digest = await pushImage(registry, 'app', 'v1', [layerOf('one')]);
  const other = gzipSync('another content');
  const real = new StorageOrigin(registry.registry.context.storage);
  const origin = originOf(registry, {
    async *openBlob(repository, descriptor) {
      if (descriptor.mediaType.includes('layer')) yield other;
      else yield* real.openBlob(repository, descriptor);
    },
  });
  const service = await ExpansionService.open(registry.registry.context.storage.data, origin, { workers: 1 });
  await service.enqueue('app', digest);
  t.is((await settled(service, 'app', digest)).state, 'failed');
  await service.close();
});

test('a layer that needs more memory than a worker has fails, and the next one is expanded', async (t) => {
  const { registry } = t.context;
  // Some hundred bytes of script heap for each of very many empty files.
  const tar = tarOf(
    Array.from({ length: 150_000 }, (_, i) => ({ name: `d${i % 100}/file-${i}`, content: '' })),
  );
  const large = { blob: gzipSync(tar, { level: 1 }), diffID: digestOf(tar) };
  const { storage } = registry.registry.context;
  const service = await ExpansionService.open(storage.data, originOf(registry), {
    workers: 1,
    workerMemory: 24,
  });
  const digest = await pushImage(registry, 'app', 'large', [large]);
  const small = await pushImage(registry, 'app', 'small', [layerOf('small')]);
  await service.enqueue('app', digest);
  await service.enqueue('app', small);
  const status = await settled(service, 'app', digest);
  t.is(status.state, 'failed');
  t.regex(status.reason ?? '', /more than \d+ entries/);
  t.is((await settled(service, 'app', small)).state, 'expanded');
  await service.close();
});

test('a thread that runs out of memory fails its layer, and not the process', async (t) => {
  const { registry } = t.context;
  const { storage } = registry.registry.context;
  // Less than its code takes.
  const options = { workers: 1, workerMemory: 4 };
  const service = await ExpansionService.open(storage.data, originOf(registry), options);
  const digest = await pushImage(registry, 'app', 'v1', [layerOf('one')]);
  await service.enqueue('app', digest);
  t.regex((await settled(service, 'app', digest)).reason ?? '', /more than the 4 MiB of memory/);
  await service.close();
});

test('a manifest that is deleted while its layer is expanded leaves nothing', async (t) => {
  const { registry } = t.context;
  const layer = layerOf('one', Buffer.alloc(500_000, 'x'));
  const digest = await pushImage(registry, 'app', 'v1', [layer]);
  const { storage } = registry.registry.context;
  const real = new StorageOrigin(storage);
  let begun!: () => void;
  const reading = new Promise<void>((resolve) => {
    begun = resolve;
  });
  const origin = originOf(registry, {
    async *openBlob(repository, descriptor, signal) {
      for await (const chunk of real.openBlob(repository, descriptor)) {
        yield chunk.subarray(0, 100);
        if (!descriptor.mediaType.includes('layer')) {
          yield chunk.subarray(100);
          continue;
        }
        begun();
        // For ever, unless it is broken off.
        await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
      }
    },
  });
  const service = await ExpansionService.open(storage.data, origin, { workers: 1 });
  await service.enqueue('app', digest);
  await reading;
  // The layer is needed as long as the job runs.
  t.is((await service.collectGarbage(-1000)).layers, 0);
  t.is((await service.status('app', digest))?.state, 'expanding');
  await storage.repository('app').deleteManifest(digest);
  await service.forget('app', digest);
  t.is(await service.status('app', digest), undefined);
  await service.close();
});
