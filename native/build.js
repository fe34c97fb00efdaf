// Builds native/build/orca.node, orca-supervisor and orca (the launcher) with the C++ compiler directly.
//
// The addon uses only Node-API, whose headers come from the `node-api-headers` package, so one binary serves
// every supported Node version, and neither node-gyp, Python, make nor a download of Node's headers is needed.
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, renameSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, isAbsolute, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { include_dir as nodeApiHeaders } from 'node-api-headers';

const here = dirname(fileURLToPath(import.meta.url));
const build = join(here, 'build');
const output = join(build, 'orca.node');
const compiler = process.env.CXX ?? 'c++';
// Resolved as Node resolves it, since npm hoists it when orca is itself a dependency.
const nodeAddonApi = dirname(createRequire(import.meta.url).resolve('node-addon-api'));

const flags = [
  '-std=c++20',
  '-O2',
  '-g',
  '-fPIC',
  '-fvisibility=hidden',
  '-fno-exceptions',
  '-Wall',
  '-Wextra',
  '-Werror',
  '-pthread',
  '-D_FILE_OFFSET_BITS=64',
  '-D_GNU_SOURCE',
  '-DNAPI_VERSION=9',
  '-DNODE_ADDON_API_DISABLE_DEPRECATED',
  '-DNAPI_DISABLE_CPP_EXCEPTIONS',
  // A worker may be terminated in the middle of a call.
  '-DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
  '-isystem',
  nodeApiHeaders,
  '-isystem',
  nodeAddonApi,
];

if (spawnSync(compiler, ['--version'], { stdio: 'ignore' }).error) {
  console.error(`orca: no C++ compiler "${compiler}"; install one (Debian: apt-get install g++) or set CXX`);
  process.exit(1);
}

mkdirSync(build, { recursive: true });
const modified = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
const filesOf = (directory, pattern) =>
  readdirSync(directory)
    .filter((name) => pattern.test(name))
    .sort()
    .map((name) => join(directory, name));
const newestOf = (paths) => Math.max(...paths.map(modified));
const sources = filesOf(here, /\.cc$/).map((path) => relative(here, path));
const newestHeader = newestOf(filesOf(here, /\.(h|js)$/));

const stale = sources.filter((name) => {
  const object = modified(join(build, `${name}.o`));
  return object < modified(join(here, name)) || object < newestHeader;
});
const queue = stale.map((name) => [...flags, '-c', join(here, name), '-o', join(build, `${name}.o`)]);
await Promise.all(
  Array.from({ length: availableParallelism() }, async () => {
    for (let args = queue.shift(); args; args = queue.shift()) await run(args);
  }),
);
if (stale.length > 0 || modified(output) === 0) {
  const objects = sources.map((name) => join(build, `${name}.o`));
  await run(['-shared', '-pthread', ...objects, '-o', `${output}.new`]);
  renameSync(`${output}.new`, output);
}

// Programs of their own, small enough to be compiled in one go; they share descriptor.h.
await buildProgram('supervisor', 'orca-supervisor', []);
const manifest = join(here, '../package.json');
const { version } = JSON.parse(readFileSync(manifest, 'utf8'));
// To load shared libraries takes longer than all else that the launcher does.
const isStatic = ['libc.a', 'libstdc++.a', 'rcrt1.o'].every((name) => isAbsolute(libraryFile(name)));
const linking = isStatic ? ['-static-pie'] : [];
await buildProgram('launcher', 'orca', [`-DORCA_VERSION="${version}"`, ...linking], modified(manifest));

/** Its path, or the name alone where the compiler has none. */
function libraryFile(name) {
  return spawnSync(compiler, [`-print-file-name=${name}`], { encoding: 'utf8' }).stdout.trim();
}

async function buildProgram(folder, name, options, newest = 0) {
  const program = join(build, name);
  const parts = filesOf(join(here, folder), /\.(cc|h)$/);
  if (modified(program) >= Math.max(newestHeader, newestOf(parts), newest)) return;
  const own = flags.filter(
    (flag) => flag !== '-fPIC' && !flag.includes('NAPI') && !flag.includes('NODE_ADDON'),
  );
  const strict = ['-Wshadow', '-Wconversion', '-Wpedantic', '-fPIE'];
  if (!options.includes('-static-pie')) strict.push('-pie');
  const sources = parts.filter((path) => path.endsWith('.cc'));
  await run([...own, ...strict, ...options, ...sources, '-o', `${program}.new`]);
  renameSync(`${program}.new`, program);
}

function run(args) {
  return new Promise((resolve) => {
    const child = spawn(compiler, args, { stdio: 'inherit' });
    child.on('close', (code) => {
      if (code === 0) return resolve();
      console.error(`orca: building the native addon failed; the compiler's message is above`);
      process.exit(1);
    });
  });
}
