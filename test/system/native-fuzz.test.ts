/**
 * What fuzzing of the addon found, and what it begins with, under the sanitizers of the ordinary compiler. The files
 * in native/fuzz/finds are named after what was wrong; `npm run fuzz:native` looks for more.
 */
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import test from 'ava';
import { run } from './command.js';

const fuzz = new URL('../../../native/fuzz/', import.meta.url).pathname;

interface Seeds {
  indexes: string;
  requests: string;
  inflate: string;
  index: string;
}

test('no known input of the fuzz targets breaks them', async (t) => {
  const work = mkdtempSync(join(tmpdir(), 'orca-fuzz-finds-'));
  t.teardown(() => rmSync(work, { recursive: true }));
  const { writeSeeds } = (await import(join(fuzz, 'seeds.js'))) as { writeSeeds(folder: string): Seeds };
  const { coreSources, inflateSources, inflateLibraries } = (await import(
    join(fuzz, 'sources.js')
  )) as Record<'coreSources' | 'inflateSources' | 'inflateLibraries', string[]>;
  const seeds = writeSeeds(work);

  const compiler = process.env.CXX ?? 'c++';
  const flags = [
    '-std=c++20',
    '-pthread',
    '-D_GNU_SOURCE',
    '-fsanitize=address,undefined',
    '-fno-sanitize-recover=undefined',
  ];
  const sources = [...coreSources, join(fuzz, 'replay.cc')];
  await run(compiler, [...flags, '-c', ...sources], { cwd: work });
  const objects = sources.map((source) => join(work, basename(source).replace(/cc$/, 'o')));
  for (const [target, corpus, parts] of [
    ['index', seeds.indexes, objects],
    ['requests', seeds.requests, objects],
    ['inflate', seeds.inflate, [join(work, 'replay.o'), ...inflateSources, ...inflateLibraries]],
  ] as const) {
    const binary = join(work, `${target}-replay`);
    await run(compiler, [...flags, join(fuzz, `${target}.cc`), ...parts, '-o', binary]);
    const inputs = [join(fuzz, 'finds', target), corpus]
      .filter(existsSync)
      .flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)));
    await t.notThrowsAsync(run(binary, inputs, { env: { ...process.env, ORCA_FUZZ_INDEX: seeds.index } }));
  }
});
