/** The files of an image in another number of layers: every layer has all directories and a share of the files. */
import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../test/system/command.js';
import { type PackedLayer, packLayer, writeLayout } from '../../test/system/layout-writer.js';
import { builtOnce } from '../../test/system/test-cache.js';
import type { BuiltImage } from './table-images.js';

export async function splitImage(image: BuiltImage, layers: number): Promise<BuiltImage> {
  const key = createHash('sha256').update(await readFile(join(image.directory, 'index.json')));
  const tag = `${image.tag}-in-${layers}`;
  const directory = await builtOnce(`${tag}-${key.digest('hex').slice(0, 16)}`, async (made, work) => {
    const [bundle, blobs] = [join(work, 'bundle'), join(made, 'blobs/sha256')];
    await run('umoci', ['unpack', '--image', `${image.directory}:${image.tag}`, bundle]);
    const { process } = JSON.parse(await readFile(join(bundle, 'config.json'), 'utf8'));
    const root = join(bundle, 'rootfs');
    await mkdir(blobs, { recursive: true });
    const packed: PackedLayer[] = [];
    for (let number = 0; number < layers; number++) {
      const part = join(work, `part-${number}`);
      await run('cp', ['-a', '--link', root, part]);
      // Of its files, every LAYERS-th one stays.
      const others = `NR % ${layers} != ${number}`;
      const script = `find "$1" ! -type d -print0 | sort -z | awk -v RS='\\0' -v ORS='\\0' '${others}' | xargs -0r rm`;
      await run('sh', ['-c', script, 'sh', part]);
      packed.push(await packLayer(part, blobs, 'gzip', `part ${number}`));
      await run('rm', ['-r', part]);
    }
    await writeLayout(made, tag, { Cmd: process.args, Env: process.env, WorkingDir: process.cwd }, packed);
  });
  return { directory, tag, check: image.check };
}
