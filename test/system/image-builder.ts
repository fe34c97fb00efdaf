/**
 * Builds the test images: mmdebstrap makes the base, every further layer is the upper directory of an overlay in
 * which a step of test/system/images/ ran, turned into an OCI layer by GNU tar.
 *
 * The cache directory (ORCA_TEST_CACHE, or orca-test-cache under the system's temporary directory) is keyed by the
 * recipes, locked against other builders, and filled by rename, so what it holds is complete.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import {
  access,
  link,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';

export interface ImageRecipe {
  /** Of the package and application layers; the shared base is always gzip. */
  compression: 'gzip' | 'zstd';
  /** The `config` object of the OCI image configuration. */
  config: Record<string, unknown>;
}

interface Layer {
  mediaType: string;
  digest: string;
  size: number;
  diffID: string;
  createdBy: string;
}

/** Directory for what tests and benchmarks build once and keep. */
export const testCache = process.env['ORCA_TEST_CACHE'] ?? join(tmpdir(), 'orca-test-cache');

const suite = 'bookworm';
const sources = new URL('../../../test/system/images/', import.meta.url).pathname;
const noDocumentation = ['man', 'doc', 'info', 'locale'].map(
  (name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`,
);

/** The OCI layout directory of an image; its tag is the image's name. */
export async function builtImage(name: string, recipe: ImageRecipe): Promise<string> {
  const base = join(testCache, `base-${await recipeKey('base', { suite, noDocumentation })}`);
  const image = join(testCache, `${name}-${await recipeKey(name, { base: basename(base), recipe })}`);
  if (await exists(image)) return image;
  if (process.getuid?.() !== 0) throw new Error(`building the test image ${name} takes root`);
  await mkdir(testCache, { recursive: true });
  const lock = await lockFile(join(testCache, 'lock'));
  const work = await mkdtemp(join(testCache, 'building-'));
  try {
    if (!(await exists(base))) await buildBase(work, base);
    if (!(await exists(image))) await buildImage(work, base, name, recipe, image);
  } finally {
    await rm(work, { recursive: true, force: true });
    await lock.close();
  }
  return image;
}

/** Makes `base`: rootfs/, the layer in blob and layer.json, and apt/ with the package lists. */
async function buildBase(work: string, base: string): Promise<void> {
  const made = join(work, 'base');
  const rootfs = join(made, 'rootfs');
  await mkdir(join(made, 'apt', 'lists', 'partial'), { recursive: true });
  await mkdir(join(made, 'apt', 'cache', 'archives', 'partial'), { recursive: true });
  const options = ['--mode=root', '--variant=minbase', '--format=directory', '--quiet', ...noDocumentation];
  await run('mmdebstrap', [...options, suite, rootfs]);
  await writeFile(join(rootfs, 'etc', 'resolv.conf'), '');
  await writeFile(join(rootfs, 'etc', 'hostname'), 'orca\n');
  await writeFile(join(rootfs, 'usr', 'sbin', 'policy-rc.d'), '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  const update = await mkdtemp(join(work, 'update-'));
  await buildStep([rootfs], update, join(made, 'apt'), sources, 'update.sh');
  const layer = await packLayer(rootfs, join(made, 'blob'), 'gzip', `mmdebstrap ${suite}`);
  await writeFile(join(made, 'layer.json'), JSON.stringify(layer));
  await rename(made, base);
}

async function buildImage(
  work: string,
  base: string,
  name: string,
  recipe: ImageRecipe,
  image: string,
): Promise<void> {
  const made = join(work, name);
  const blobs = join(made, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  const baseLayer = JSON.parse(await readFile(join(base, 'layer.json'), 'utf8')) as Layer;
  await link(join(base, 'blob'), join(blobs, baseLayer.digest.slice('sha256:'.length)));
  const layers = [baseLayer];
  const below = [join(base, 'rootfs')];
  for (const script of ['packages.sh', 'app.sh']) {
    const step = await mkdtemp(join(work, 'step-'));
    const upper = join(step, 'upper');
    await buildStep(below, step, join(base, 'apt'), join(sources, name), script);
    below.unshift(upper);
    layers.push(await packLayer(upper, join(blobs, `${script}.new`), recipe.compression, script, blobs));
  }
  const created = '2024-01-01T00:00:00Z';
  const config = await writeBlob(blobs, {
    architecture: 'amd64',
    os: 'linux',
    created,
    config: recipe.config,
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffID) },
    history: layers.map((layer) => ({ created, created_by: layer.createdBy })),
  });
  const manifest = await writeBlob(blobs, {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
    layers: layers.map(({ mediaType, digest, size }) => ({ mediaType, digest, size })),
  });
  const descriptor = {
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    ...manifest,
    annotations: { 'org.opencontainers.image.ref.name': name },
  };
  await writeFile(join(made, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  await writeFile(join(made, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [descriptor] }));
  await rename(made, image);
}

/** Runs a script over the layers below, in a mount namespace of its own; WORK/upper is then the new layer. */
async function buildStep(
  below: readonly string[],
  work: string,
  apt: string,
  files: string,
  script: string,
): Promise<void> {
  await run('unshare', [
    '--mount',
    join(sources, 'build-layer.sh'),
    below.join(':'),
    work,
    apt,
    files,
    script,
  ]);
  await ociWhiteouts(join(work, 'upper'));
}

/** Replaces the whiteouts and opaque marks of overlayfs with those of the OCI image specification. */
async function ociWhiteouts(upper: string): Promise<void> {
  const marks = await capture('getfattr', [
    '-R',
    '-h',
    '--absolute-names',
    '-m',
    '^trusted.overlay.opaque$',
    upper,
  ]);
  for (const [, directory] of marks.matchAll(/^# file: (.*)$/gm))
    await writeFile(join(directory!, '.wh..wh..opq'), '');
  for (const entry of await readdir(upper, { recursive: true, withFileTypes: true })) {
    if (!entry.isCharacterDevice()) continue;
    const path = join(entry.parentPath, entry.name);
    if ((await lstat(path)).rdev !== 0) continue;
    await rm(path);
    await writeFile(join(dirname(path), `.wh.${entry.name}`), '');
  }
}

/** Packs a directory as a layer blob; with `blobs` it is moved there under its digest. */
async function packLayer(
  directory: string,
  path: string,
  compression: ImageRecipe['compression'],
  createdBy: string,
  blobs?: string,
): Promise<Layer> {
  const xattrs = ['--xattrs', '--xattrs-include=security.capability', '--xattrs-include=user.*'];
  const pax = ['--format=pax', '--pax-option=delete=atime,delete=ctime', '--numeric-owner', '--sort=name'];
  const tar = spawn('tar', [...pax, ...xattrs, '-C', directory, '-c', '.'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const diffID = hashOf(tar.stdout);
  if (compression === 'gzip') {
    await pipeline(tar.stdout, createGzip({ level: 6 }), createWriteStream(path));
  } else {
    const zstd = spawn('zstd', ['-q', '-c'], { stdio: ['pipe', 'pipe', 'inherit'] });
    await Promise.all([pipeline(tar.stdout, zstd.stdin), pipeline(zstd.stdout, createWriteStream(path))]);
  }
  if (tar.exitCode === null) await once(tar, 'exit');
  if (tar.exitCode !== 0) throw new Error(`tar of ${directory} ended with ${tar.exitCode}`);
  const blob = createReadStream(path);
  const digest = hashOf(blob);
  await finished(blob);
  const hex = digest().slice('sha256:'.length);
  if (blobs !== undefined) await rename(path, join(blobs, hex));
  const { size } = await lstat(blobs === undefined ? path : join(blobs, hex));
  const mediaType = `application/vnd.oci.image.layer.v1.tar+${compression}`;
  return { mediaType, digest: digest(), size, diffID: diffID(), createdBy };
}

/** Hashes what flows through the stream; the function returned gives the digest once it has ended. */
function hashOf(stream: Readable): () => string {
  const hash = createHash('sha256');
  stream.on('data', (chunk: Buffer) => hash.update(chunk));
  let hex: string | undefined;
  return () => `sha256:${(hex ??= hash.digest('hex'))}`;
}

async function writeBlob(blobs: string, value: unknown): Promise<{ digest: string; size: number }> {
  const bytes = Buffer.from(JSON.stringify(value));
  const hex = createHash('sha256').update(bytes).digest('hex');
  await writeFile(join(blobs, hex), bytes);
  return { digest: `sha256:${hex}`, size: bytes.length };
}

/** 16 hex digits over everything that decides what a build step makes. */
async function recipeKey(name: string, recipe: unknown): Promise<string> {
  const hash = createHash('sha256')
    .update(JSON.stringify(recipe))
    .update(await readFile(import.meta.filename));
  const folders = name === 'base' ? [sources] : [sources, join(sources, name)];
  for (const folder of folders) {
    for (const entry of (await readdir(folder, { withFileTypes: true })).sort((a, b) =>
      a.name < b.name ? -1 : 1,
    )) {
      if (entry.isFile()) hash.update(`${entry.name}\0`).update(await readFile(join(folder, entry.name)));
    }
  }
  return hash.digest('hex').slice(0, 16);
}

/** Waits for the lock and holds it until the handle is closed; flock(1) locks the description that it inherits. */
export async function lockFile(path: string) {
  const handle = await open(path, 'a');
  await run('flock', ['3'], handle.fd);
  return handle;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** Runs a program whose output is of interest only when it fails. */
async function run(
  command: string,
  args: readonly string[],
  fd: number | 'ignore' = 'ignore',
): Promise<void> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe', fd] });
  let output = '';
  for (const stream of [child.stdout!, child.stderr!])
    stream.on('data', (chunk: Buffer) => (output += chunk));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}:\n${output.slice(-4000)}`);
}

async function capture(command: string, args: readonly string[]): Promise<string> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}`);
  return output;
}
