/**
 * What tests and benchmarks build once and keep: directories under ORCA_TEST_CACHE, or orca-test-cache under the
 * system's temporary directory. They are filled by rename, so what has a name is complete.
 */
import { access, type FileHandle, mkdir, mkdtemp, open, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from './command.js';

export const testCache = process.env['ORCA_TEST_CACHE'] ?? join(tmpdir(), 'orca-test-cache');

/**
 * The directory of this name; `build` fills it the first time, while others that want it wait. The name must tell
 * of everything that decides the content. `build` is given the directory and a place for intermediate files.
 */
export async function builtOnce(
  name: string,
  build: (made: string, work: string) => Promise<void>,
): Promise<string> {
  const path = join(testCache, name);
  if (await exists(path)) return path;
  await mkdir(testCache, { recursive: true });
  const lock = await lockFile(join(testCache, `${name}.lock`));
  const work = await mkdtemp(join(testCache, 'building-'));
  try {
    if (!(await exists(path))) {
      const made = join(work, 'made');
      await mkdir(made);
      await build(made, work);
      await rename(made, path);
    }
  } finally {
    await rm(work, { recursive: true, force: true });
    await lock.close();
  }
  return path;
}

/** Waits for the lock and holds it until the handle is closed; flock(1) locks the description that it inherits. */
async function lockFile(path: string): Promise<FileHandle> {
  const handle = await open(path, 'a');
  await run('flock', ['3'], { fd: handle.fd });
  return handle;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
