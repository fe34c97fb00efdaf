import { mkdtemp, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import { useImage } from '../../src/mount/image-use.js';
import { FileSource } from '../../src/source/file-source.js';
import { loadImage } from '../../src/source/remote-image.js';
import { addImage, content } from '../source/store-fixture.js';

test('an image whose blobs are evicted between its loading and its mounting has them again, and keeps them', async (t) => {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'orca-image-use-')));
  t.teardown(() => rm(directory, { recursive: true }));
  const store = join(directory, 'store');
  await addImage(store, 'app:1', [{ one: content('one', 300_000) }]);
  const source = new FileSource(store);
  const cache = await BlockCache.open(join(directory, 'cache'));
  const image = await loadImage(source, 'app:1', cache.directory);
  const index = await readFile(image.indexPath);
  const documents = [image.indexPath, ...image.documents!.map((digest) => cache.blobs.path(digest))];
  t.is(documents.length, 4, 'index, manifest, artifact, config');
  for (const path of documents) await rm(path);

  const request = { image, cache, sources: [source] };
  let end: () => void = () => undefined;
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  await useImage(request, async (leases, indexPath) => {
    t.is(leases.length, 1);
    // Whoever would still remove it comes too late.
    await rm(image.indexPath);
    t.true(index.equals(await readFile(indexPath)));
    return { ended: Promise.all([ended, ...leases.map((lease) => ended.then(() => lease.close()))]) };
  });
  t.true((await cache.images.usage())[0]!.inUse);
  t.deepEqual(await cache.images.evictable(), []);
  end();
  await new Promise(setImmediate);

  const { restoreIndex: _, ...lost } = image;
  await t.throwsAsync(
    useImage({ ...request, image: lost }, async () => t.fail() as never),
    { code: 'ENOENT' },
  );
  t.false((await cache.images.usage())[0]!.inUse);
  cache.close();
});
