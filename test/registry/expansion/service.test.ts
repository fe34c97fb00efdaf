import { statSync } from 'node:fs';
import { join } from 'node:path';
import anyTest, { type TestFn } from 'ava';
import { TELEPORT_TYPE } from '../../../src/image/artifact.js';
import { layerPath } from '../../../src/image/catalog.js';
import { digestOf } from '../../../src/oci/digest.js';
import { openSource } from '../../../src/source/open-source.js';
import { loadImage } from '../../../src/source/remote-image.js';
import { json, TestRegistry } from '../server-fixture.js';
import { expansionOf, layerOf, pushImage, settled } from './images.js';

const test = anyTest as TestFn<{ registry: TestRegistry }>;
test.beforeEach(async (t) => {
  t.context.registry = await TestRegistry.start({ expansion: { workers: 2 } });
});
test.afterEach.always((t) => t.context.registry.stop());

test('an image that is pushed is expanded, found by the referrers API, and loads from the repository’s store', async (t) => {
  const { registry } = t.context;
  const layers = [layerOf('one'), layerOf('two')];
  const digest = await pushImage(registry, 'team/app', 'v1', layers);
  const expansion = expansionOf(registry.registry);
  const status = await settled(expansion, 'team/app', digest);
  t.is(status.state, 'expanded');
  t.deepEqual(
    status.layers.map((layer) => [layer.digest, layer.diffID, layer.status]),
    layers.map(({ blob, diffID }) => [digestOf(blob), diffID, 'expanded']),
  );
  const answer = await registry.send('GET', `/v2/team/app/referrers/${digest}`);
  const [referrer] = (json(answer) as { manifests: { digest: string; artifactType: string }[] }).manifests;
  t.is(referrer?.artifactType, TELEPORT_TYPE);
  t.is(referrer?.digest, status.artifact?.digest);

  const share = expansion.sharePath('team/app');
  const source = await openSource(share);
  const image = await loadImage(source, 'team/app:v1', join(registry.directory, 'cache'));
  t.is(image.manifestDigest, digest);
  t.is(image.devices.length, 2);
  await source.close();
  for (const { diffID } of layers) t.is(statSync(join(share, layerPath(diffID))).nlink, 2);
});
