// Builds and runs the fuzz targets of this folder: `npm run fuzz:native -- [SECONDS]`.
//
// Needs clang with its runtime library (Debian: clang libclang-rt-14-dev). Starts from images that our own writer
// makes and from the finds of earlier runs; a new find is copied into finds/, to be named after its reason.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeSeeds } from './seeds.js';
import { coreSources, inflateLibraries, inflateSources } from './sources.js';

const here = dirname(fileURLToPath(import.meta.url));
const build = join(dirname(here), 'build', 'fuzz');
const finds = join(here, 'finds');
const seconds = Number(process.argv[2] ?? 60);
const clang = process.env.CLANGXX ?? 'clang++';

if (spawnSync(clang, ['--version'], { stdio: 'ignore' }).error) {
  console.error(`orca: no "${clang}"; install it (Debian: apt-get install clang libclang-rt-14-dev) or set CLANGXX`);
  process.exit(1);
}
mkdirSync(build, { recursive: true });
const seeds = mkdtempSync(join(tmpdir(), 'orca-fuzz-seeds-'));
let failed = false;
try {
  const { indexes, requests, inflate, index } = writeSeeds(seeds);
  for (const [target, corpus, maximum, sources] of [
    ['index', indexes, 65536, coreSources],
    ['requests', requests, 4096, coreSources],
    ['inflate', inflate, 65536, [...inflateSources, ...inflateLibraries]],
  ]) {
    const binary = join(build, target);
    const flags = ['-std=c++20', '-O1', '-g', '-pthread', '-D_GNU_SOURCE', '-fsanitize=fuzzer,address,undefined'];
    flags.push('-fno-sanitize-recover=undefined', join(here, `${target}.cc`));
    run(clang, [...flags, ...sources, '-o', binary]);
    const artifacts = join(seeds, `${target}-find-`);
    const known = join(finds, target);
    mkdirSync(known, { recursive: true });
    const options = [`-max_total_time=${seconds}`, `-max_len=${maximum}`, `-artifact_prefix=${artifacts}`, '-seed=1'];
    const args = [...options, '-timeout=5', '-rss_limit_mb=1024', '-print_final_stats=1', corpus, known];
    failed = !run(binary, args, { ORCA_FUZZ_INDEX: index }) || failed;
  }
  for (const name of readdirSync(seeds)) {
    const [, target, find] = /^(index|requests|inflate)-find-(.*)/.exec(name) ?? [];
    if (target === undefined) continue;
    copyFileSync(join(seeds, name), join(finds, target, find));
    console.error(`orca: a find to be named after its reason: ${join(finds, target, find)}`);
  }
} finally {
  rmSync(seeds, { recursive: true });
}
process.exit(failed ? 1 : 0);

function run(command, args, env = {}) {
  const { status } = spawnSync(command, args, { stdio: 'inherit', env: { ...process.env, ...env } });
  if (status !== 0 && command === clang) process.exit(1);
  return status === 0;
}
