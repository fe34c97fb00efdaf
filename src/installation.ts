/**
 * Where the parts of this program lie: next to the compiled sources (dist/src, as tests run them), or next to the
 * bundles that bundle.js makes of them (dist/bin, as users run them). Both are two folders below package.json.
 */
import { createRequire } from 'node:module';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What runs as a process or thread of its own: the name of its bundle, and its compiled source. */
const ENTRIES = {
  orca: 'cli/main.js',
  orcad: 'cli/orcad.js',
  'expansion-worker': 'registry/expansion/worker.js',
  'layer-worker': 'layer/layer-worker.js',
  'password-worker': 'registry/password-worker.js',
} as const;

const root = new URL('../../', import.meta.url);
const bundled = basename(fileURLToPath(new URL('.', import.meta.url))) === 'bin';

export function entryOf(name: keyof typeof ENTRIES): URL {
  return new URL(bundled ? `${name}.js` : ENTRIES[name], import.meta.url);
}

/** The path of a file of the package, such as `native/build/orca.node`. */
export function packageFile(path: string): string {
  return fileURLToPath(new URL(path, root));
}

export function packageVersion(): string {
  return (createRequire(import.meta.url)(packageFile('package.json')) as { version: string }).version;
}
