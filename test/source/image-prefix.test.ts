import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { layerPath } from '../../src/image/catalog.js';
import { FileSource } from '../../src/source/file-source.js';
import { imagePrefix } from '../../src/source/image-prefix.js';
import { loadImage } from '../../src/source/remote-image.js';
import { addImage, content } from './store-fixture.js';

const layers = [
  { 'bin/one': content('one', 300_000), 'etc/conf': content('conf', 10) },
  { 'bin/two': content('two', 5000), 'etc/conf': content('other', 20) },
  { 'bin/three': content('three', 1) },
];

test('a prefix has the index of the image that consists of these layers', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'orca-prefix-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const [store, cache] = [join(directory, 'store'), join(directory, 'cache')];
  for (const count of [1, 2, 3]) await addImage(store, `app:${count}`, layers.slice(0, count));
  const source = new FileSource(store);
  const whole = await loadImage(source, 'app:3', cache);
  for (const count of [1, 2, 3]) {
    const same = await loadImage(source, `app:${count}`, cache);
    const prefix = await imagePrefix(whole, count, [source], cache);
    t.deepEqual(await readFile(prefix.indexPath), await readFile(same.indexPath));
    t.deepEqual(prefix.devices, same.devices);
  }
  await t.throwsAsync(imagePrefix(whole, 4, [source], cache), { code: 'NOT_FOUND' });
  await t.throwsAsync(imagePrefix(whole, 0, [source], cache), { code: 'NOT_FOUND' });

  const damaged = join(store, layerPath(whole.devices[0]!.diffID));
  const file = await open(damaged, 'r+');
  await file.write(Buffer.from([1]), 0, 1, 100);
  await file.close();
  await t.throwsAsync(imagePrefix(whole, 2, [source], cache), { code: 'CORRUPT' });
  await t.throwsAsync(imagePrefix(whole, 2, [], cache), { code: 'NOT_FOUND' });
});
