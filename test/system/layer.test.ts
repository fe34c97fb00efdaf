/** What other tars write, extracted by GNU tar, against the kernel's mount of the layer VHD. */
import {
  closeSync,
  createReadStream,
  ftruncateSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { decompress, decompressZstdInScript } from '../../src/layer/decompress.js';
import { expandLayer } from '../../src/layer/expand.js';
import { importTree } from '../../src/layer/import-tree.js';
import { fileReader, openVhd } from '../../src/vhd/vhd.js';
import { run } from './command.js';
import { KernelMounts } from './kernel-mounts.js';
import { differences, walkTree } from './tree-compare.js';

const XATTRS = ['--xattrs', '--xattrs-include=*'];

function workDirectory(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'orca-layer-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** What every tar format can hold. */
function makePlainTree(root: string): void {
  mkdirSync(join(root, 'dir/sub'), { recursive: true });
  writeFileSync(join(root, 'dir/file'), 'content', { mode: 0o640 });
  writeFileSync(join(root, 'dir/sub/big'), Buffer.alloc(3_000_000, 'big file '));
  writeFileSync(join(root, 'dir/copy'), Buffer.alloc(3_000_000, 'big file '));
  writeFileSync(join(root, 'empty'), '');
  linkSync(join(root, 'dir/file'), join(root, 'hard'));
  symlinkSync('/dir/../nowhere', join(root, 'soft'));
  lutimesSync(join(root, 'dir/file'), 1_000_000_000, 1_000_000_000);
}

/** Adds what only some can hold. */
async function makeFullTree(root: string): Promise<void> {
  makePlainTree(root);
  const deep = join(root, ...Array.from({ length: 8 }, (_, i) => `${i}${'d'.repeat(60)}`));
  mkdirSync(deep, { recursive: true });
  writeFileSync(join(deep, 'n'.repeat(255)), 'deep');
  symlinkSync('t'.repeat(3000), join(root, 'long-target'));
  linkSync(join(deep, 'n'.repeat(255)), join(root, 'long-hard'));
  for (const name of ['caf\xe9', '\xff\xfe', 'new\nline', ' space ', 'umlaut-\xc3\xbc']) {
    writeFileSync(Buffer.from(join(root, name), 'latin1'), name);
  }
  await run('mknod', [join(root, 'null'), 'c', '1', '3']);
  await run('mknod', [join(root, 'loop'), 'b', '7', '200']);
  await run('mkfifo', [join(root, 'pipe')]);
  writeFileSync(join(root, 'setuid'), 'x');
  await run('chown', ['3000000000:70000', join(root, 'setuid')]);
  await run('chmod', ['6755', join(root, 'setuid')]);
  await run('touch', ['-d', '@-1234567.5', join(root, 'ancient')]);
  await run('touch', ['-d', '@4294967296.123456789', join(root, 'future')]);
  writeFileSync(join(root, 'capable'), 'x');
  await run('setcap', ['cap_net_raw+ep', join(root, 'capable')]);
  await run('setfattr', ['-n', 'user.bin', '-v', '0xff00fe0a80', join(root, 'capable')]);
  await run('setfattr', ['-n', 'trusted.dir', '-v', 'value', join(root, 'dir')]);
  for (const pieces of [1, 4, 5, 40]) {
    const fd = openSync(join(root, `sparse-${pieces}`), 'w');
    for (let i = 0; i < pieces; i++) writeSync(fd, Buffer.alloc(4096 + i, `piece ${i}`), 0, null, i * 65_536);
    ftruncateSync(fd, pieces * 65_536 + 10);
    closeSync(fd);
  }
  const fd = openSync(join(root, 'sparse-empty'), 'w');
  ftruncateSync(fd, 1 << 30);
  closeSync(fd);
}

/** Expands `archive`, checks it with fsck.erofs and compares its mount with `reference`. */
async function compareLayer(
  t: ExecutionContext,
  archive: string,
  reference: string,
  expectedWarnings: string[] = [],
): Promise<void> {
  const output = `${archive}.vhd`;
  const warnings: string[] = [];
  await expandLayer(createReadStream(archive), { output, onWarning: (message) => warnings.push(message) });
  await run('fsck.erofs', [output]);
  const mounts = new KernelMounts();
  try {
    const tree = await walkTree(await mounts.layer(output));
    t.deepEqual(differences(tree, await walkTree(reference)), [], archive);
    t.true(tree.size > 8);
  } finally {
    mounts.close();
  }
  t.deepEqual(warnings, expectedWarnings, archive);
}

/** What GNU tar makes of an archive. */
async function extract(archive: string): Promise<string> {
  const directory = `${archive}.extracted`;
  mkdirSync(directory);
  await run('tar', [...XATTRS, '-xpf', archive, '-C', directory]);
  return directory;
}

/** Formats that keep everything of the tree. */
const EXACT: Record<string, string[]> = {
  'tar-pax': ['tar', '--format=pax', ...XATTRS],
  'tar-pax-sparse-0.0': ['tar', '--format=pax', ...XATTRS, '-S', '--sparse-version=0.0'],
  'tar-pax-sparse-0.1': ['tar', '--format=pax', ...XATTRS, '-S', '--sparse-version=0.1'],
  'tar-pax-sparse-1.0': ['tar', '--format=pax', ...XATTRS, '-S', '--sparse-version=1.0'],
};

/** Formats that cut times to seconds and leave xattrs out: compared with what GNU tar extracts. */
const LOSSY: Record<string, string[]> = {
  'tar-gnu': ['tar', '--format=gnu'],
  'tar-gnu-sparse': ['tar', '--format=gnu', '-S'],
  'tar-oldgnu': ['tar', '--format=oldgnu'],
};

/** Formats without long names and devices. */
const PLAIN: Record<string, string[]> = {
  'tar-v7': ['tar', '--format=v7'],
  'tar-ustar': ['tar', '--format=ustar'],
};

async function archiveOf(work: string, root: string, name: string, command: string[]): Promise<string> {
  const archive = join(work, `${name}.tar`);
  const [program = '', ...args] = command;
  await run(program, [...args, '-cf', archive, '-C', root, '.']);
  return archive;
}

test('layers in the pax formats of GNU tar and bsdtar are the tree that was archived', async (t) => {
  const work = workDirectory(t);
  const root = join(work, 'root');
  mkdirSync(root);
  await makeFullTree(root);
  for (const [name, command] of Object.entries(EXACT)) {
    await compareLayer(t, await archiveOf(work, root, name, command), root);
  }
  // bsdtar 3.6 writes -1.5 s as -2.5.
  await run('touch', ['-d', '@-1234567', join(root, 'ancient')]);
  await compareLayer(t, await archiveOf(work, root, 'bsdtar', ['bsdtar', '--format=pax']), root);
});

test('layers in other formats are what GNU tar extracts', async (t) => {
  const work = workDirectory(t);
  const [full, plain] = [join(work, 'full'), join(work, 'plain')];
  mkdirSync(full);
  mkdirSync(plain);
  await makeFullTree(full);
  rmSync(join(full, 'sparse-empty'));
  makePlainTree(plain);
  for (const [formats, root] of [
    [LOSSY, full],
    [PLAIN, plain],
  ] as const) {
    for (const [name, command] of Object.entries(formats)) {
      const archive = await archiveOf(work, root, name, command);
      await compareLayer(t, archive, await extract(archive));
    }
  }
});

test('layers from Python are what GNU tar extracts', async (t) => {
  const work = workDirectory(t);
  const root = join(work, 'root');
  mkdirSync(root);
  await makeFullTree(root);
  for (const format of ['PAX', 'GNU']) {
    const archive = join(work, `${format}.tar`);
    const script = `import os, sys, tarfile
with tarfile.open(sys.argv[2], 'w', format=tarfile.${format}_FORMAT) as archive:
    archive.add(sys.argv[1], arcname='.', filter=lambda info: None if 'sparse-empty' in info.name else info)`;
    await run('python3', ['-c', script, root, archive]);
    await compareLayer(t, archive, await extract(archive));
  }
});

test('incremental archives and those with a volume label are read', async (t) => {
  const work = workDirectory(t);
  const root = join(work, 'root');
  mkdirSync(root);
  makePlainTree(root);
  const snapshot = `--listed-incremental=${join(work, 'snapshot')}`;
  const archive = await archiveOf(work, root, 'incremental', [
    'tar',
    '--format=gnu',
    '--label=volume',
    snapshot,
  ]);
  await compareLayer(t, archive, await extract(archive), ['tar: "volume" of type "V" is skipped']);
});

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const chunk of chunks) pieces.push(chunk);
  return Buffer.concat(pieces);
}

test('what zstd and gzip compress comes out again, at all levels and in many frames', async (t) => {
  const work = workDirectory(t);
  const node = readFileSync(process.execPath).subarray(0, 2_000_000);
  const content = Buffer.concat([
    node,
    Buffer.alloc(300_000),
    Buffer.alloc(500_000, 'text '),
    node.subarray(0, 99),
  ]);
  const input = join(work, 'input');
  writeFileSync(input, content);
  const levels = [
    ['-1'],
    ['-3'],
    ['-19'],
    ['--ultra', '-22'],
    ['-9', '--long=27'],
    ['-3', '--no-check'],
    ['--fast=5'],
  ];
  for (const [index, level] of levels.entries()) {
    const file = join(work, `${index}.zst`);
    await run('zstd', ['-q', ...level, input, '-o', file]);
    t.true((await collect(decompress(createReadStream(file)))).equals(content), level.join(' '));
    t.true((await collect(decompressZstdInScript(createReadStream(file)))).equals(content), level.join(' '));
  }
  const frames = Buffer.concat(['1.zst', '5.zst'].map((name) => readFileSync(join(work, name))));
  writeFileSync(join(work, 'frames.zst'), frames);
  t.true(
    (await collect(decompress(createReadStream(join(work, 'frames.zst'))))).equals(
      Buffer.concat([content, content]),
    ),
  );
  writeFileSync(
    join(work, 'members.gz'),
    Buffer.concat([gzipSync(content), gzipSync(content), Buffer.alloc(100_000)]),
  );
  t.true(
    (await collect(decompress(createReadStream(join(work, 'members.gz'))))).equals(
      Buffer.concat([content, content]),
    ),
  );
});

test('an image of mkfs.erofs and its import are the same to the kernel', async (t) => {
  const work = workDirectory(t);
  const root = join(work, 'root');
  mkdirSync(root);
  await makeFullTree(root);
  // mkfs.erofs 1.5 fails on long paths.
  rmSync(join(root, `0${'d'.repeat(60)}`), { recursive: true });
  const image = join(work, 'image.erofs');
  await run('mkfs.erofs', ['-x1', image, root]);
  const fd = openSync(image, 'r');
  try {
    const size = readFileSync(image).length;
    const output = join(work, 'layer.vhd');
    const layer = await importTree({ readAt: fileReader(fd), size }, { output });
    await run('fsck.erofs', [output]);
    await run('qemu-img', ['info', '-f', 'vpc', output]);
    const mounts = new KernelMounts();
    try {
      const tree = await walkTree(await mounts.layer(output));
      t.deepEqual(differences(tree, await walkTree(await mounts.layer(image))), []);
      t.deepEqual(differences(tree, await walkTree(root)), []);
    } finally {
      mounts.close();
    }
    const vhd = openSync(output, 'r');
    const again = join(work, 'again.vhd');
    const second = await importTree(openVhd(fileReader(vhd), layer.size), { output: again });
    closeSync(vhd);
    t.is(second.diffID, layer.diffID);
    t.true(readFileSync(again).equals(readFileSync(output)));
  } finally {
    closeSync(fd);
  }
});

test('memory does not grow with the size of a layer', async (t) => {
  const work = workDirectory(t);
  const script = fileURLToPath(new URL('./expand-generated.js', import.meta.url));
  for (const [index, [files, size]] of [
    [1, 1 << 30],
    [20_000, 10_000],
  ].entries()) {
    const output = join(work, `${index}.vhd`);
    const peak = Number(await run(process.execPath, [script, `${files}`, `${size}`, output]));
    t.true(peak < 250e6, `${files} files of ${size} bytes took ${peak}`);
    rmSync(output);
  }
});
