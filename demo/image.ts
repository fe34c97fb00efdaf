/**
 * The demo's image, made of what this machine has: the Node binary that runs the demo with its shared libraries,
 * npm, an application with this project's dependencies, and a layer that deletes what the application can do
 * without.
 */
import { execFile } from 'node:child_process';
import { chmod, cp, mkdir, readdir, realpath, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { packLayer, writeLayout } from '../test/system/layout-writer.js';

const execute = promisify(execFile);
const project = new URL('../../', import.meta.url).pathname;

/** What the application says when all is well. */
export const GREETING = /^Node v\S+ as app: 3 modules loaded, typescript deleted\n$/;

const APPLICATION = `
const { existsSync } = require('node:fs');
const { userInfo } = require('node:os');
const modules = ['commander', 'lru-cache', 'pino'].map((name) => require(name));
const gone = existsSync('/app/node_modules/typescript') ? 'still there' : 'deleted';
console.log(\`Node \${process.version} as \${userInfo().username}: \${modules.length} modules loaded, typescript \${gone}\`);
`;

export interface DemoImage {
  /** OCI layout directory. */
  directory: string;
  tag: string;
  layers: number;
  /** Of all layer blobs, compressed. */
  bytes: number;
  /** Paths of the layer blobs, lowest first. */
  blobs: string[];
}

/** Builds the image in `directory`, with `stage` for the trees of its layers. */
export async function buildImage(directory: string, stage: string): Promise<DemoImage> {
  const blobs = join(directory, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  const steps: [string, (root: string) => Promise<void>][] = [
    ['the shared libraries of Node and the users', baseLayer],
    ['Node and npm', nodeLayer],
    ['the application and its dependencies', applicationLayer],
    ['rm -r node_modules of development', deletionLayer],
  ];
  const layers = [];
  for (const [i, [title, fill]] of steps.entries()) {
    const root = join(stage, String(i));
    await mkdir(root, { recursive: true });
    await fill(root);
    layers.push(await packLayer(root, blobs, 'gzip', title));
    await rm(root, { recursive: true });
  }
  const config = {
    Entrypoint: ['node'],
    Cmd: ['/app/main.js'],
    Env: ['PATH=/usr/local/bin:/usr/bin:/bin', 'NODE_ENV=production'],
    WorkingDir: '/app',
    User: 'app',
  };
  await writeLayout(directory, 'demo', config, layers);
  return {
    directory,
    tag: 'demo',
    layers: layers.length,
    bytes: layers.reduce((sum, layer) => sum + layer.size, 0),
    blobs: layers.map((layer) => join(blobs, layer.digest.replace('sha256:', ''))),
  };
}

async function baseLayer(root: string): Promise<void> {
  await place(root, 'etc/passwd', 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/app:/bin/sh\n');
  await place(root, 'etc/group', 'root:x:0:\napp:x:1000:\n');
  await mkdir(join(root, 'tmp'));
  await chmod(join(root, 'tmp'), 0o1777);
  const { stdout } = await execute('ldd', [process.execPath]);
  // "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)" and "/lib64/ld-linux-x86-64.so.2 (0x…)"
  for (const [, path] of stdout.matchAll(/(?:=>\s*|^\s*)(\/\S+) \(0x/gm)) {
    if (path !== undefined) await copy(path, join(root, path));
  }
}

async function nodeLayer(root: string): Promise<void> {
  await copy(process.execPath, join(root, 'usr/local/bin/node'));
  const npm = join(dirname(await realpath(process.execPath)), '../lib/node_modules/npm');
  if (await exists(npm)) await cp(npm, join(root, 'usr/local/lib/node_modules/npm'), { recursive: true });
}

async function applicationLayer(root: string): Promise<void> {
  await place(root, 'app/main.js', APPLICATION);
  const modules = join(project, 'node_modules');
  for (const name of await readdir(modules)) {
    if (name.startsWith('.')) continue;
    await cp(join(modules, name), join(root, 'app/node_modules', name), {
      recursive: true,
      dereference: true,
    });
  }
}

/** Whiteouts, as a build step that runs rm leaves them (OCI image-spec layer.md). */
async function deletionLayer(root: string): Promise<void> {
  for (const name of ['typescript', '@typescript', '@biomejs', 'ava', 'lodash']) {
    await place(root, `app/node_modules/.wh.${name}`, '');
  }
  await place(root, 'app/BUILD', 'pruned\n');
}

async function place(root: string, path: string, content: string): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true });
  await writeFile(join(root, path), content);
}

async function copy(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await cp(from, to, { dereference: true });
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
