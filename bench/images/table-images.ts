/**
 * Images like those of Project Teleport's published table, which had 182 MB in 6 layers, 1.7 GB in 7, 5.1 GB in 34 and
 * 1.8 KB in 1; these are up to a fifth larger. The three big ones run the same program, Python that imports numpy and
 * adds; what else they hold is Debian's. The tiny one is a static binary that prints a line.
 */

import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '../../test/system/command.js';
import type { ImageCheck } from '../../test/system/images.js';
import { packLayer, writeLayout } from '../../test/system/layout-writer.js';
import { builtOnce } from '../../test/system/test-cache.js';
import { install, type LayeredImage, layeredImage, type Step, unpack } from './layered-image.js';

export const tableImageNames = ['tiny', '182mb', '1700mb', '5100mb'] as const;
export type TableImageName = (typeof tableImageNames)[number];

export interface BuiltImage {
  /** OCI layout directory, to be only read. */
  directory: string;
  /** The one reference name in it. */
  tag: string;
  check: ImageCheck;
}

const main = `import numpy

squares = numpy.arange(1000, dtype=numpy.int64) ** 2
print("squares", int(squares.sum()), numpy.__name__)
`;
const app: Step = {
  name: 'app',
  script: 'install -D -m 644 /mnt/main.py /app/main.py && python3 -m compileall -q /app',
  files: { 'main.py': main },
};
const STDOUT = 'squares 332833500 numpy\n';
const config = {
  Entrypoint: ['python3', '/app/main.py'],
  Env: [
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    'LANG=C.UTF-8',
    'PYTHONUNBUFFERED=1',
  ],
  WorkingDir: '/app',
};

const python = [install('python3-minimal'), install('python3')];
const numpy = install('python3-numpy');
const arm = ['gcc-arm-none-eabi', 'libnewlib-arm-none-eabi'];

const recipes: Record<Exclude<TableImageName, 'tiny'>, LayeredImage> = {
  '182mb': { name: 'table-182mb', steps: [install('ca-certificates'), ...python, numpy], app, config },
  '1700mb': {
    name: 'table-1700mb',
    steps: [install('python3'), numpy],
    bulk: [
      unpack(...arm, 'gcc-12', 'g++-12'),
      unpack('golang-1.19-go', 'golang-1.19-src'),
      unpack('openjdk-17-jre-headless'),
    ],
    app,
    config,
  },
  '5100mb': {
    name: 'table-5100mb',
    steps: [install('ca-certificates'), ...python, numpy],
    bulk: [
      unpack('gcc-arm-none-eabi'),
      unpack('libnewlib-arm-none-eabi'),
      unpack('gcc-12', 'g++-12'),
      unpack('golang-1.19-go'),
      unpack('golang-1.19-src'),
      unpack('openjdk-17-jre-headless'),
      unpack('openjdk-17-jdk-headless'),
      unpack('coq'),
      unpack('fonts-noto-extra'),
      unpack('thunderbird'),
      unpack('firefox-esr'),
      unpack('chromium'),
      unpack('llvm-14-dev'),
      unpack('libclang-14-dev'),
      unpack('libstd-rust-dev'),
      unpack('ansible'),
      unpack('libboost1.74-dev'),
      unpack('libtorch1.13'),
      unpack('libreoffice-core'),
      unpack('libllvm14'),
      unpack('python3-scipy'),
      unpack('postgresql-15'),
      unpack('emacs-common'),
      unpack('libicu-dev'),
      unpack('libnode108'),
      unpack('r-base-core'),
      unpack('vim-runtime'),
      unpack('cmake'),
    ],
    app,
    config,
  },
};

/** The image, built first if the test cache does not hold it. */
export async function tableImage(
  name: TableImageName,
  progress: (text: string) => void = () => {},
): Promise<BuiltImage> {
  if (name === 'tiny') return tinyImage();
  const recipe = recipes[name];
  return {
    directory: await layeredImage(recipe, progress),
    tag: recipe.name,
    check: { command: [], stdout: STDOUT },
  };
}

/** Of nothing that the others have, for a host that is to have run something before. */
export function warmUpImage(): Promise<BuiltImage> {
  return tinyImage('table-warm-up');
}

async function tinyImage(tag = 'table-tiny'): Promise<BuiltImage> {
  const source = fileURLToPath(new URL('../../../bench/images/tiny.c', import.meta.url));
  const key = createHash('sha256').update(await readFile(source));
  const directory = await builtOnce(`${tag}-${key.digest('hex').slice(0, 16)}`, async (made, work) => {
    const [root, blobs] = [join(work, 'root'), join(made, 'blobs/sha256')];
    for (const path of [root, blobs]) await mkdir(path, { recursive: true });
    const size = ['-Os', '-nostdlib', '-static', '-fno-asynchronous-unwind-tables', '-fcf-protection=none'];
    const link = ['-s', '-Wl,--build-id=none,-z,noseparate-code,-n'];
    const program = join(root, 'hello');
    await run(process.env['CC'] ?? 'cc', [...size, ...link, '-o', program, source]);
    await writeFile(join(root, 'tag'), tag);
    await writeFile(join(made, 'stdout'), await run(program, []));
    await writeLayout(made, tag, { Cmd: ['/hello'] }, [await packLayer(root, blobs, 'gzip', tag)]);
  });
  return {
    directory,
    tag,
    check: { command: [], stdout: await readFile(join(directory, 'stdout'), 'utf8') },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const wanted = process.argv.length > 2 ? process.argv.slice(2) : tableImageNames;
  for (const name of wanted) {
    const { directory } = await tableImage(name as TableImageName, console.log);
    console.log(`${name}  ${directory}`);
  }
}
