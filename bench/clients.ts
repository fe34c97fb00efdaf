/** The small C++ programs of bench/clients/, compiled on first use: they measure without a runtime of their own. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../test/system/command.js';
import { builtOnce } from '../test/system/test-cache.js';

const sources = new URL('../../bench/clients/', import.meta.url).pathname;

async function compiled(name: string): Promise<string> {
  const source = join(sources, `${name}.cc`);
  const key = createHash('sha256')
    .update(await readFile(source))
    .digest('hex')
    .slice(0, 16);
  const directory = await builtOnce(`client-${name}-${key}`, async (made) => {
    await run(process.env['CXX'] ?? 'c++', ['-O2', '-std=c++20', '-o', join(made, name), source]);
  });
  return join(directory, name);
}

/** Seconds of one lstat(2) of each path. */
export async function timeLookups(paths: readonly string[]): Promise<number> {
  const client = await compiled('lookup');
  return Number(await run(client, [], { input: `${paths.join('\n')}\n` })) / 1e9;
}

/** Seconds of reading the file from start to end with none of its pages in the page cache. */
export async function timeRead(path: string): Promise<number> {
  return Number(await run(await compiled('read'), [path])) / 1e9;
}

/** Seconds of reading pieces at random places of the file, with none of its pages in the page cache. */
export async function timeRandomReads(path: string, count: number, bytesEach: number): Promise<number> {
  const client = await compiled('random-read');
  return Number(await run(client, [path, String(count), String(bytesEach)])) / 1e9;
}
