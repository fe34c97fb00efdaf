/** Debian's containerd with `orca snapshotter` as its proxy plugin. Needs root. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { orca } from '../cli/orca.js';
import { run } from './command.js';
import { testImage } from './images.js';
import { SnapshotterHost } from './snapshotter-host.js';

/** runc keeps the containers of every containerd of a host in one place. */
const container = (name: string) => `orca-${process.pid}-${name}`;

let scratch: string;
let host: SnapshotterHost;

test.before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'orca-snapshotter-'));
  host = await SnapshotterHost.start();
});
test.after.always(async () => {
  await host?.stop();
  await rm(scratch, { recursive: true, force: true });
});

async function importImage(name: 'python' | 'nginx'): Promise<string> {
  const image = await testImage(name);
  const archive = join(scratch, `${name}.tar`);
  if (!existsSync(archive)) {
    await run('skopeo', ['copy', `oci:${image.directory}:${image.tag}`, `oci-archive:${archive}`]);
  }
  const reference = `example.org/${name}:1`;
  await host.ctr('images', 'import', '--snapshotter', 'orca', '--index-name', reference, archive);
  return reference;
}

test.serial('an image that was imported runs', async (t) => {
  const reference = await importImage('python');
  const code = 'import numpy; print(numpy.arange(4).sum())';
  const args = ['run', '--rm', '--snapshotter', 'orca', reference, container('one'), 'python3', '-c', code];
  t.is((await host.ctr(...args)).trim(), '6');
  const snapshots = await host.ctr('snapshots', '--snapshotter', 'orca', 'list');
  t.regex(snapshots, /Committed/);
  t.notRegex(snapshots, /Active/);
});

test.serial('of two snapshotters with one root, the second does not start', async (t) => {
  const listen = join(scratch, 'second.sock');
  const second = await orca(['snapshotter', '--root', host.root, '--listen', listen, ...host.hostOptions]);
  t.not(second.code, 0);
  t.regex(second.stderr, /another snapshotter uses this root/);
  t.regex(await host.ctr('snapshots', '--snapshotter', 'orca', 'list'), /Committed/);
});

test.serial('ctr snapshots: prepare, write, commit, view, usage, info, tree, remove', async (t) => {
  const snapshots = (...args: string[]) => host.ctr('snapshots', '--snapshotter', 'orca', ...args);
  const at = join(scratch, 'mnt');
  await mkdir(at);
  const mounted = async (command: string, action: () => Promise<void>) => {
    await run('sh', ['-c', command]);
    await action();
    await run('umount', [at]);
  };
  await snapshots('prepare', 'work', '');
  await mounted(await snapshots('mounts', at, 'work'), async () => {
    await run('sh', ['-c', `echo content > ${at}/file`]);
  });
  await snapshots('commit', 'done', 'work');
  await snapshots('view', 'look', 'done');
  await mounted(await snapshots('mounts', at, 'look'), async () => {
    t.is(await readFile(join(at, 'file'), 'utf8'), 'content\n');
    await t.throwsAsync(run('sh', ['-c', `echo other > ${at}/file`]));
  });
  t.regex(await snapshots('usage', 'done'), /done\s+\d/);
  t.is((JSON.parse(await snapshots('info', 'done')) as { Kind: string }).Kind, 'Committed');
  t.regex(await snapshots('tree'), /done\n.*look/);
  await t.throwsAsync(snapshots('remove', 'done'));
  await snapshots('remove', 'look');
  await snapshots('remove', 'done');
  await t.throwsAsync(snapshots('info', 'done'));
});

test.serial('two images that share layers are imported at once', async (t) => {
  const [python, nginx] = await Promise.all([importImage('python'), importImage('nginx')]);
  for (const reference of [python, nginx]) {
    const name = container(reference.replace(/\W/g, '-'));
    const listed = await host.ctr('run', '--rm', '--snapshotter', 'orca', reference, name, 'ls', '/');
    t.true(listed.split('\n').includes('etc'));
  }
});

test.serial('snapshots are there after containerd, the snapshotter and both were killed', async (t) => {
  const reference = await importImage('python');
  // containerd waits up to three seconds before it connects to its plugin again.
  const list = async () => {
    for (let tries = 0; ; tries++) {
      try {
        return await host.ctr('snapshots', '--snapshotter', 'orca', 'list');
      } catch (error) {
        if (tries === 100) throw error;
        await sleep(100);
      }
    }
  };
  const before = await list();
  await host.stopSnapshotter('SIGKILL');
  await host.startSnapshotter();
  t.is(await list(), before);
  await host.containerd.stop();
  await host.stopSnapshotter('SIGKILL');
  await host.startSnapshotter();
  await host.containerd.start();
  t.is(await list(), before);
  t.is(
    (
      await host.ctr('run', '--rm', '--snapshotter', 'orca', reference, container('again'), 'echo', 'hello')
    ).trim(),
    'hello',
  );
});

test.serial('a removed image leaves nothing', async (t) => {
  for (const name of ['python', 'nginx'])
    await host.ctr('images', 'remove', '--sync', `example.org/${name}:1`);
  t.is((await host.ctr('snapshots', '--snapshotter', 'orca', 'list')).trim().split('\n').length, 1);
  t.deepEqual(await readdir(join(host.root, 'snapshots')), []);
});
