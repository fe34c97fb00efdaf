/** The simplest runc bundle for a root file system, the same for every side of a comparison. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../test/system/command.js';
import { seconds } from './measure.js';

export interface BundleProcess {
  args: readonly string[];
  env: readonly string[];
  cwd: string;
  uid: number;
}

/** Writes DIRECTORY/config.json. */
export async function writeBundle(directory: string, rootfs: string, process: BundleProcess): Promise<void> {
  await mkdir(directory, { recursive: true });
  await run('runc', ['spec', '--bundle', directory]);
  const path = join(directory, 'config.json');
  const spec = JSON.parse(await readFile(path, 'utf8'));
  spec.root = { path: rootfs, readonly: false };
  spec.process = {
    ...spec.process,
    terminal: false,
    args: process.args,
    env: process.env,
    cwd: process.cwd,
    user: { uid: process.uid, gid: process.uid },
  };
  await writeFile(path, JSON.stringify(spec));
}

let containers = 0;

/** Seconds of `runc run`; throws when stdout is not what was expected. */
export async function timeContainer(bundle: string, expected: string): Promise<number> {
  const id = `orca-bench-${process.pid}-${containers++}`;
  let stdout = '';
  const time = await seconds(async () => {
    stdout = await run('runc', ['run', '--bundle', bundle, id]);
  });
  if (stdout !== expected) throw new Error(`the container printed ${JSON.stringify(stdout)}`);
  return time;
}

/** Mounts a writable overlay over a root file system; gives where. */
export async function overlayOver(lower: string, directory: string): Promise<string> {
  const merged = join(directory, 'merged');
  for (const name of ['upper', 'work', 'merged']) await mkdir(join(directory, name), { recursive: true });
  const options = `lowerdir=${lower},upperdir=${join(directory, 'upper')},workdir=${join(directory, 'work')}`;
  await run('mount', ['-t', 'overlay', '-o', options, 'overlay', merged]);
  return merged;
}

/** Mounts a writable overlay over a root file system while `use` runs. */
export async function withOverlay<T>(
  lower: string,
  directory: string,
  use: (merged: string) => Promise<T>,
): Promise<T> {
  const merged = await overlayOver(lower, directory);
  try {
    return await use(merged);
  } finally {
    await run('umount', [merged]);
  }
}

/** The process of the Python image, as its configuration has it. */
export const pythonProcess: BundleProcess = {
  args: ['python3', '/app/main.py'],
  env: ['PATH=/usr/local/bin:/usr/bin:/bin', 'LANG=C.UTF-8', 'PYTHONUNBUFFERED=1'],
  cwd: '/app',
  uid: 1000,
};
