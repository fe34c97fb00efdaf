import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { imageNames, testImage } from './images.js';

for (const name of imageNames) {
  test(`skopeo accepts the ${name} image, of three layers on the shared base`, async (t) => {
    const { directory, tag } = await testImage(name);
    const { status, stdout, stderr } = spawnSync('skopeo', ['inspect', `oci:${directory}:${tag}`], {
      encoding: 'utf8',
    });
    t.is(status, 0, stderr);
    const { Layers: layers } = JSON.parse(stdout) as { Layers: string[] };
    t.is(layers.length, 3);
    const python = await testImage('python');
    const index = JSON.parse(await readFile(join(python.directory, 'index.json'), 'utf8'));
    const manifest = index.manifests[0].digest.slice('sha256:'.length);
    t.is(
      JSON.parse(await readFile(join(python.directory, 'blobs', 'sha256', manifest), 'utf8')).layers[0]
        .digest,
      layers[0],
    );
  });
}
