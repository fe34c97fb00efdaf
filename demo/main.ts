/**
 * The demo: an image out of what this machine has, expanded into a store, shared by Samba, run from there, and
 * compared with unpacking it first. Without smbd the store is read from its directory; without runc the image is
 * mounted and its program started by chroot.
 */
import { spawn } from 'node:child_process';
import { access, constants, mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { formatBytes } from '../src/cli/progress.js';
import { formatTable } from '../src/cli/table.js';
import { Samba } from '../test/system/samba.js';
import { buildImage, type DemoImage, GREETING } from './image.js';

const orca = new URL('../src/cli/main.js', import.meta.url).pathname;
/** The command as it is installed, which asks a daemon for containers. */
const launcher = new URL('../../bin/orca', import.meta.url).pathname;
const unpackAndRun = new URL('unpack-and-run.js', import.meta.url).pathname;

/** How long a command took, in milliseconds, and what it printed. */
interface Outcome {
  ms: number;
  stdout: string;
}

interface Comparison {
  image: DemoImage;
  expanded: Outcome;
  expandedBytes: number;
  served: string;
  /** undefined without runc. */
  unpacked: { first: Outcome; second: Outcome } | undefined;
  mounted: { first: Outcome; second: Outcome };
  fetched: number;
}

if (process.getuid?.() !== 0) {
  console.error('The demo mounts an image and runs a container, which takes root: sudo npm run demo');
  process.exit(1);
}
const directory = await mkdtemp('/var/tmp/orca-demo-');
let samba: Samba | undefined;
let hasDaemon = false;
try {
  print(await compare());
} catch (error) {
  console.error(`demo: ${(error as Error).message}`);
  process.exitCode = 1;
} finally {
  if (hasDaemon) {
    const stop = ['daemon', '--stop', '--force', '--run-dir', join(directory, 'run')];
    await byDaemon(stop).catch((error: Error) => console.error(error.message));
  }
  await samba?.stop();
  await rm(directory, { recursive: true, force: true });
}

async function compare(): Promise<Comparison> {
  const at = (name: string) => join(directory, name);
  say(
    'Building an image of four layers: shared libraries, Node, an application, and deletions of what it needs not',
  );
  const image = await buildImage(at('image'), at('stage'));
  say('Expanding it into a store');
  const expanded = await command([
    orca,
    'expand',
    `oci:${image.directory}:${image.tag}`,
    '--store',
    at('store'),
  ]);

  const environment: Record<string, string> = {};
  let store = at('store');
  if (await program('smbd')) {
    samba = await Samba.start({ shares: { store: { path: store } }, encryption: 'required' });
    store = samba.url('store');
    environment['ORCA_SMB_USER'] = samba.username;
    environment['ORCA_SMB_PASSWORD'] = samba.password;
  } else {
    say('There is no smbd (apt-get install samba): the store is read from its directory');
  }
  const served = samba === undefined ? 'the directory' : `${store}, encrypted`;
  const runc = await program('runc');
  if (!runc)
    say('There is no runc (apt-get install runc): the image is mounted, and its program run by chroot');

  let unpacked: Comparison['unpacked'];
  if (runc) {
    say('Unpacking its layers, then running it');
    const run = (blobs: string[]) => command([unpackAndRun, at('unpacked'), at('run'), ...blobs]);
    unpacked = { first: await run(image.blobs), second: await run([]) };
  }
  say(`Running it from ${served}`);
  const options = ['--store', store, '--cache', at('cache'), '--run-dir', at('run')];
  const run = () =>
    runc
      ? byDaemon(['run', '--rm', ...options, image.tag], environment)
      : mountAndChroot(options, image, at('mount'), environment);
  hasDaemon = runc;
  const mounted = { first: await run(), second: await run() };
  const outcomes = [mounted.first, mounted.second, ...(unpacked ? [unpacked.first, unpacked.second] : [])];
  for (const { stdout } of outcomes) {
    if (!GREETING.test(stdout)) throw new Error(`the container said ${JSON.stringify(stdout)}`);
  }
  return {
    image,
    expanded,
    expandedBytes: await diskUse(at('store/layers')),
    served,
    unpacked,
    mounted,
    fetched: await diskUse(at('cache')),
  };
}

async function mountAndChroot(
  options: string[],
  image: DemoImage,
  mountpoint: string,
  environment: Record<string, string>,
): Promise<Outcome> {
  await mkdir(mountpoint, { recursive: true });
  const mount = await command([orca, 'mount', ...options, image.tag, mountpoint], environment);
  try {
    const chroot = ['--userspec=1000:1000', mountpoint, '/usr/local/bin/node', '/app/main.js'];
    const run = await command(chroot, environment, 'chroot');
    return { ms: mount.ms + run.ms, stdout: run.stdout };
  } finally {
    await command([orca, 'umount', mountpoint, '--run-dir', join(directory, 'run')]);
  }
}

/** The command as users have it. */
function byDaemon(args: string[], environment: Record<string, string> = {}): Promise<Outcome> {
  return command(args, { ...environment, ORCA_NO_DAEMON: undefined }, launcher);
}

/** Runs a script of ours, or another program, and fails with what it printed when it does not end with 0. */
async function command(
  args: string[],
  environment: Record<string, string | undefined> = {},
  file = process.execPath,
): Promise<Outcome> {
  const began = performance.now();
  const child = spawn(file, args, {
    // But for containers each command is to stand for itself.
    env: { ...process.env, ORCA_NO_DAEMON: '1', ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let stdout = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const ms = performance.now() - began;
  if (code !== 0) throw new Error(`${args.slice(0, 3).join(' ')} … ended with ${code} ${stdout}`);
  return { ms, stdout };
}

/** Bytes on disk of all files below a directory. */
async function diskUse(path: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(path, { recursive: true })) {
    const { blocks, size } = await stat(join(path, name));
    bytes += Math.min(blocks * 512, size);
  }
  return bytes;
}

async function program(name: string): Promise<boolean> {
  for (const path of (process.env['PATH'] ?? '').split(':')) {
    try {
      await access(join(path, name), constants.X_OK);
      return true;
    } catch {}
  }
  return false;
}

function say(text: string): void {
  console.log(`• ${text}`);
}

function print(comparison: Comparison): void {
  const { image, expanded, expandedBytes, served, unpacked, mounted, fetched } = comparison;
  const time = ({ ms }: Outcome) => `${(ms / 1000).toFixed(2)} s`;
  const row = (title: string, { first, second }: { first: Outcome; second: Outcome }, bytes: string) => [
    ` ${title}`,
    time(first),
    time(second),
    bytes,
  ];
  const share = `${Math.round((100 * fetched) / image.bytes)} % of the blobs`;
  const table = [
    ['', 'first run', 'second run', 'bytes moved'],
    ...(unpacked ? [row('unpack, then run', unpacked, `${formatBytes(image.bytes)}, every blob`)] : []),
    row('mount, then run', mounted, `${formatBytes(fetched)}, ${share}`),
  ];
  console.log(`\n  ${mounted.first.stdout}`);
  console.log(formatTable(table));
  console.log(
    `The image has ${image.layers} layers of ${formatBytes(image.bytes)}, ${formatBytes(expandedBytes)} expanded, ` +
      `once, in ${time(expanded)}. It was served from ${served}.`,
  );
}
