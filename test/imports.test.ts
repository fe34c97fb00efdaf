/** Holds the folders of src/ to their one direction of imports. */
import { readdir, readFile } from 'node:fs/promises';
import { join, relative, resolve, sep } from 'node:path';
import test from 'ava';

/** From the top down: a folder may import its own level's folders only where `sideways` says so, and what is below. */
const levels: readonly (readonly string[])[] = [
  ['cli'],
  ['doctor'],
  ['daemon', 'registry', 'snapshotter'],
  ['runtime'],
  ['mount'],
  ['cache'],
  ['source'],
  ['image'],
  ['layer'],
  ['erofs', 'vhd', 'tar', 'smb', 'oci'],
  ['native', 'telemetry', 'errors.ts'],
  ['installation.ts', 'limit.ts', 'http-url.ts', 'counted.ts', 'abort.ts', 'byte-range.ts'],
];

/** Imports between folders of one level, with the reason. */
const sideways: Readonly<Record<string, readonly string[]>> = {
  vhd: ['erofs'], // the codec of fixed-width records
  tar: ['erofs'], // names are byte strings, as in the tree that a layer becomes
  oci: ['tar'], // docker-archive and oci-archive are tar files
  telemetry: ['errors.ts'],
  native: ['errors.ts'],
  snapshotter: ['daemon'], // mounts that outlive the snapshotter are the daemon's
};

const source = resolve(import.meta.dirname, '..', '..', 'src');
const level = (component: string) => levels.findIndex((names) => names.includes(component));

async function sourceFiles(): Promise<string[]> {
  const entries = await readdir(source, { recursive: true });
  return entries.filter((name) => name.endsWith('.ts')).sort();
}

/** The file's imports of other files in src/, relative to src/. */
async function importsOf(file: string): Promise<string[]> {
  const text = await readFile(join(source, file), 'utf8');
  const specifiers = text.matchAll(
    /^\s*(?:import|export)\b(?:[^;'"]*?\bfrom)?\s*['"](\.[^'"]+)['"]|\bimport\(\s*['"](\.[^'"]+)['"]/gm,
  );
  return [...specifiers].map(([, fixed, dynamic]) =>
    relative(source, resolve(source, file, '..', (fixed ?? dynamic)!)).replace(/\.js$/, '.ts'),
  );
}

test('every folder of src has a level', async (t) => {
  const components = new Set((await sourceFiles()).map((file) => file.split(sep)[0]!));
  t.deepEqual(
    [...components].filter((component) => level(component) < 0),
    [],
  );
});

test('imports run from a higher level to a lower one', async (t) => {
  const wrong: string[] = [];
  let seen = 0;
  for (const file of await sourceFiles()) {
    const from = file.split(sep)[0]!;
    for (const imported of await importsOf(file)) {
      const to = imported.split(sep)[0]!;
      if (to === '..') continue;
      seen++;
      if (to === from || level(to) > level(from) || sideways[from]?.includes(to)) continue;
      wrong.push(`${file} imports ${imported}`);
    }
  }
  t.deepEqual(wrong, []);
  t.true(seen > 0);
});
