/** What a warm container asks of the mount: nothing that the kernel can answer from its own caches. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { overlayOver, pythonProcess, timeContainer, writeBundle } from '../../bench/bundle.js';
import { expandInto, mountedImage } from '../../bench/mounted-image.js';
import { run } from './command.js';
import { testImage } from './images.js';

/** What the kernel's dentry, attribute and page caches answer when they are warm. */
const cachedByTheKernel = [
  'LOOKUP',
  'OPEN',
  'OPENDIR',
  'READ',
  'READDIR',
  'READDIRPLUS',
  'GETATTR',
  'GETXATTR',
  'READLINK',
];

test('a second run of a container sends no LOOKUP, OPEN, READ, READDIR, GETATTR or GETXATTR', async (t) => {
  t.timeout(10 * 60_000);
  const work = await mkdtemp(join(tmpdir(), 'orca-warm-path-'));
  const undo: (() => Promise<unknown>)[] = [() => rm(work, { recursive: true })];
  try {
    const { directory, tag, check } = await testImage('python');
    const store = join(work, 'store');
    await expandInto(store, directory, tag, 'python');
    const image = await mountedImage({
      store,
      image: 'python',
      cache: join(work, 'cache'),
      mountpoint: join(work, 'mnt'),
    });
    undo.push(() => image.unmount());
    const merged = await overlayOver(image.mountpoint, join(work, 'overlay'));
    undo.push(() => run('umount', [merged]));
    await writeBundle(join(work, 'bundle'), merged, pythonProcess);

    const requests = async () => {
      await timeContainer(join(work, 'bundle'), check.stdout!);
      return (await image.stats()).session.requests;
    };
    const first = await requests();
    const second = await requests();
    t.true((first['LOOKUP'] ?? 0) > 0 && (first['READ'] ?? 0) > 0, JSON.stringify(first));
    const sent = cachedByTheKernel.map((name) => [name, (second[name] ?? 0) - (first[name] ?? 0)] as const);
    t.deepEqual(
      sent.filter(([, count]) => count > 0),
      [],
    );
  } finally {
    for (const action of undo.reverse()) await action();
  }
});
