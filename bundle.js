// Bundles what starts often into dist/bin, since finding and reading a hundred small modules takes longer than running
// them. Packages that only some commands need stay where they are, and are loaded when they are needed.
import { chmodSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('.', import.meta.url));
const outdir = `${root}dist/bin`;
const entryPoints = {
  orca: 'cli/main.ts',
  'mount.fuse.orca': 'cli/mount-helper.ts',
  orcad: 'cli/orcad.ts',
  'expansion-worker': 'registry/expansion/worker.ts',
  'layer-worker': 'layer/layer-worker.ts',
  'password-worker': 'registry/password-worker.ts',
};

rmSync(outdir, { recursive: true, force: true });
await build({
  entryPoints: Object.entries(entryPoints).map(([out, path]) => ({ out, in: `${root}src/${path}` })),
  outdir,
  chunkNames: 'part-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  external: ['@grpc/grpc-js', '@grpc/proto-loader', 'bcryptjs', 'jose', 'pino', 'undici', 'undici/*'],
  // For packages that are written as CommonJS.
  banner: {
    js: "import { createRequire as requireOf } from 'node:module';\nconst require = requireOf(import.meta.url);",
  },
  legalComments: 'linked',
  logLevel: 'warning',
});
for (const name of ['orca', 'mount.fuse.orca']) chmodSync(`${outdir}/${name}.js`, 0o755);
