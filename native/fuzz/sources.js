// The parts of the addon that are fuzzed: everything between bytes and system calls, which knows nothing of Node.
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const native = dirname(dirname(fileURLToPath(import.meta.url)));
const apart = /^(addon.*|main-thread|preloader|session|worker-pool|sys|fusermount|inflater)\.cc$/;

export const coreSources = readdirSync(native)
  .filter((name) => name.endsWith('.cc') && !apart.test(name))
  .map((name) => join(native, name));

/** Of the target `inflate`, which takes zlib from the distribution, where the addon has Node's. */
export const inflateSources = [join(native, 'inflater.cc')];
export const inflateLibraries = ['-l:libz.so.1'];
