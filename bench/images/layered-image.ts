/**
 * Images of any number of layers out of Debian packages. Every layer is kept in the test cache on its own, under the
 * steps that made it, so that images share layers and a build that was cut off goes on where it was.
 *
 * The first layer is made by mmdebstrap. Each other one is what a step changed in a chroot over layers below it:
 * packages that apt-get installs, or, for bulk, packages that are only unpacked.
 */
import { createHash } from 'node:crypto';
import { link, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../test/system/command.js';
import { hexOf, type PackedLayer, packLayer, writeLayout } from '../../test/system/layout-writer.js';
import { builtOnce } from '../../test/system/test-cache.js';

const suite = 'bookworm';
const mmdebstrap = ['--mode=root', '--variant=apt', '--format=directory', '--quiet'];
const withoutDocumentation = ['man', 'doc', 'info', 'locale'].map(
  (name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`,
);
const buildLayer = new URL('../../../test/system/images/build-layer.sh', import.meta.url).pathname;

/** A shell script for a chroot, and files beside it. */
export interface Step {
  name: string;
  script: string;
  files?: Record<string, string>;
}

export function install(...packages: string[]): Step {
  return {
    name: packages.at(-1)!,
    script: `apt-get -qq install --no-install-recommends ${packages.join(' ')}`,
  };
}

/** Unpacks the packages alone: nothing that they depend on, and none of their scripts run. */
export function unpack(...packages: string[]): Step {
  return {
    name: packages[0]!,
    script: `cd "$(mktemp -d)"
apt-get -qq download ${packages.join(' ')}
for package in *.deb; do dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C /; done
rm *.deb`,
  };
}

export interface LayeredImage {
  name: string;
  /** Above the Debian base, lowest first; each is made over the base and the steps before it. */
  steps: readonly Step[];
  /** Above those, each made over the base alone. */
  bulk?: readonly Step[];
  /** Over the base and `steps`, the topmost layer. */
  app: Step;
  config: Record<string, unknown>;
}

interface Layer {
  /** Holds blob, layer.json and, where other layers are made over it, root/; the base also apt/. */
  directory: string;
  packed: PackedLayer;
}

/** The OCI layout directory; its tag is the image's name. `progress` hears of layers that are built. */
export async function layeredImage(image: LayeredImage, progress: (text: string) => void): Promise<string> {
  const base = await baseLayer(progress);
  const layers = [base];
  for (const step of image.steps) layers.push(await stepLayer(step, layers, true, progress));
  const app = await stepLayer(image.app, layers, false, progress);
  for (const step of image.bulk ?? []) layers.push(await stepLayer(step, [base], false, progress));
  layers.push(app);
  const packed = layers.map((layer) => layer.packed);
  return builtOnce(`${image.name}-${keyOf(image.config, packed)}`, async (made) => {
    const blobs = join(made, 'blobs/sha256');
    await mkdir(blobs, { recursive: true });
    for (const { directory, packed } of layers) {
      await link(join(directory, 'blob'), join(blobs, hexOf(packed.digest)));
    }
    await writeLayout(made, image.name, image.config, packed);
  });
}

async function baseLayer(progress: (text: string) => void): Promise<Layer> {
  return builtLayer(
    'base',
    keyOf(suite, mmdebstrap, withoutDocumentation),
    true,
    progress,
    async (made, work) => {
      const apt = join(made, 'apt');
      for (const name of ['lists/partial', 'cache/archives/partial'])
        await mkdir(join(apt, name), { recursive: true });
      const root = join(work, 'root');
      await run('mmdebstrap', [...mmdebstrap, ...withoutDocumentation, suite, root]);
      await writeFile(join(root, 'etc/resolv.conf'), '');
      await writeFile(join(root, 'etc/hostname'), 'orca\n');
      await writeFile(join(root, 'usr/sbin/policy-rc.d'), '#!/bin/sh\nexit 101\n', { mode: 0o755 });
      for (const name of ['var/lib/apt/lists', 'var/cache/apt']) {
        await rm(join(root, name), { recursive: true });
        await mkdir(join(root, name));
      }
      await runStep({ name: 'update', script: 'apt-get -qq update' }, [root], apt, work);
      return root;
    },
  );
}

/** `keep`: other layers will be made over this one. */
async function stepLayer(
  step: Step,
  below: readonly Layer[],
  keep: boolean,
  progress: (text: string) => void,
): Promise<Layer> {
  const key = keyOf(step, keep, ...below.map(({ packed }) => packed.digest));
  return builtLayer(step.name, key, keep, progress, async (_, work) => {
    const lower = below.map(({ directory }) => join(directory, 'root')).reverse();
    const upper = await runStep(step, lower, join(below[0]!.directory, 'apt'), work);
    for (const entry of await readdir(upper, { recursive: true, withFileTypes: true })) {
      if (entry.isCharacterDevice()) throw new Error(`${step.name} deletes ${entry.name} of a layer below`);
    }
    return upper;
  });
}

async function builtLayer(
  name: string,
  key: string,
  keep: boolean,
  progress: (text: string) => void,
  make: (made: string, work: string) => Promise<string>,
): Promise<Layer> {
  const directory = await builtOnce(`layer-${name}-${key}`, async (made, work) => {
    progress(`building the layer ${name}`);
    const root = await make(made, work);
    const packed = await packLayer(root, made, 'gzip', name);
    await rename(join(made, hexOf(packed.digest)), join(made, 'blob'));
    await writeFile(join(made, 'layer.json'), JSON.stringify(packed));
    if (keep) await rename(root, join(made, 'root'));
  });
  const packed = JSON.parse(await readFile(join(directory, 'layer.json'), 'utf8')) as PackedLayer;
  return { directory, packed };
}

/** Runs the step over the layers below, topmost first, in a mount namespace of its own; gives what it changed. */
async function runStep(step: Step, lower: readonly string[], apt: string, work: string): Promise<string> {
  const place = await mkdtemp(join(work, 'step-'));
  const files = join(place, 'files');
  await mkdir(files);
  for (const [name, text] of Object.entries({ ...step.files, 'step.sh': `${step.script}\n` }))
    await writeFile(join(files, name), text);
  await run('unshare', ['--mount', buildLayer, lower.join(':'), place, apt, files, 'step.sh']);
  return join(place, 'upper');
}

function keyOf(...parts: readonly unknown[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16);
}
