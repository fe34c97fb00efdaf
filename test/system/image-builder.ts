/**
 * Builds the test images: mmdebstrap makes the base, every further layer is the upper directory of an overlay in
 * which a script of test/system/images/ ran, with the whiteouts of overlayfs replaced by those of OCI.
 */
import { createHash } from 'node:crypto';
import { link, lstat, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { run } from './command.js';
import { type Compression, hexOf, type PackedLayer, packLayer, writeLayout } from './layout-writer.js';
import { builtOnce } from './test-cache.js';

export interface ImageRecipe {
  /** Of the package and application layers; the shared base is always gzip. */
  compression: Compression;
  /** The `config` object of the OCI image configuration. */
  config: Record<string, unknown>;
}

const suite = 'bookworm';
const sources = new URL('../../../test/system/images/', import.meta.url).pathname;
const withoutDocumentation = ['man', 'doc', 'info', 'locale'].map(
  (name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`,
);

/** The OCI layout directory of an image; its tag is the image's name. Building it takes root. */
export async function builtImage(name: string, recipe: ImageRecipe): Promise<string> {
  const base = await builtOnce(`base-${await recipeKey([sources], suite)}`, buildBase);
  const key = await recipeKey([sources, join(sources, name)], basename(base) + JSON.stringify(recipe));
  return builtOnce(`${name}-${key}`, (made, work) => buildImage(made, work, base, name, recipe));
}

/** Makes rootfs/, the layer in blob and layer.json, and apt/ with the package lists. */
async function buildBase(made: string, work: string): Promise<void> {
  const rootfs = join(made, 'rootfs');
  await mkdir(join(made, 'apt', 'lists', 'partial'), { recursive: true });
  await mkdir(join(made, 'apt', 'cache', 'archives', 'partial'), { recursive: true });
  const options = ['--mode=root', '--variant=minbase', '--format=directory', '--quiet'];
  await run('mmdebstrap', [...options, ...withoutDocumentation, suite, rootfs]);
  await writeFile(join(rootfs, 'etc', 'resolv.conf'), '');
  await writeFile(join(rootfs, 'etc', 'hostname'), 'orca\n');
  await writeFile(join(rootfs, 'usr', 'sbin', 'policy-rc.d'), '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  await runStep([rootfs], await mkdtemp(join(work, 'step-')), join(made, 'apt'), sources, 'update.sh');
  const layer = await packLayer(rootfs, made, 'gzip', `mmdebstrap ${suite}`);
  await rename(join(made, hexOf(layer.digest)), join(made, 'blob'));
  await writeFile(join(made, 'layer.json'), JSON.stringify(layer));
}

async function buildImage(
  made: string,
  work: string,
  base: string,
  name: string,
  recipe: ImageRecipe,
): Promise<void> {
  const blobs = join(made, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  const layers = [JSON.parse(await readFile(join(base, 'layer.json'), 'utf8')) as PackedLayer];
  await link(join(base, 'blob'), join(blobs, hexOf(layers[0]!.digest)));
  const below = [join(base, 'rootfs')];
  const scripts = ['packages.sh', 'app.sh'];
  for (const script of scripts) {
    const step = await mkdtemp(join(work, 'step-'));
    await runStep(below, step, join(base, 'apt'), join(sources, name), script);
    below.unshift(join(step, 'upper'));
  }
  for (const [index, script] of scripts.entries()) {
    const upper = below[scripts.length - 1 - index]!;
    await convertWhiteouts(upper);
    layers.push(await packLayer(upper, blobs, recipe.compression, script));
  }
  await writeLayout(made, name, recipe.config, layers);
}

/** Runs a script over the layers below, in a mount namespace of its own; STEP/upper is then the new layer. */
async function runStep(
  below: readonly string[],
  step: string,
  apt: string,
  files: string,
  script: string,
): Promise<void> {
  const program = join(sources, 'build-layer.sh');
  await run('unshare', ['--mount', program, below.join(':'), step, apt, files, script]);
}

/** Replaces the whiteouts and opaque marks of overlayfs with those of the OCI image specification. */
async function convertWhiteouts(upper: string): Promise<void> {
  const opaque = ['-R', '-h', '--absolute-names', '-m', '^trusted.overlay.opaque$', upper];
  for (const [, directory] of (await run('getfattr', opaque)).matchAll(/^# file: (.*)$/gm)) {
    await writeFile(join(directory!, '.wh..wh..opq'), '');
  }
  for (const entry of await readdir(upper, { recursive: true, withFileTypes: true })) {
    if (!entry.isCharacterDevice()) continue;
    const path = join(entry.parentPath, entry.name);
    if ((await lstat(path)).rdev !== 0) continue;
    await rm(path);
    await writeFile(join(dirname(path), `.wh.${entry.name}`), '');
  }
}

/** 16 hex digits over the files of the folders and over the code that packs them. */
async function recipeKey(folders: readonly string[], recipe: string): Promise<string> {
  const hash = createHash('sha256').update(recipe);
  for (const folder of folders) {
    for (const entry of (await readdir(folder, { withFileTypes: true })).sort((a, b) =>
      a.name < b.name ? -1 : 1,
    )) {
      if (entry.isFile()) hash.update(`${entry.name}\0`).update(await readFile(join(folder, entry.name)));
    }
  }
  for (const name of ['image-builder.js', 'layout-writer.js']) {
    hash.update(await readFile(join(import.meta.dirname, name)));
  }
  return hash.digest('hex').slice(0, 16);
}
