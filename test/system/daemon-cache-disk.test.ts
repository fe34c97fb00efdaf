/**
 * The disk of the block cache becomes full, or read-only, and the daemon is killed: the next one adopts the mounts
 * without asking their store, and readers get the right bytes. Needs root.
 */
import { once } from 'node:events';
import { constants } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { MNT_DETACH } from '../../src/mount/mount-point.js';
import { addon } from '../../src/native/addon.js';
import { DaemonFixture } from '../daemon/daemon-fixture.js';
import { addImage, content } from '../source/store-fixture.js';
import { run } from './command.js';

const IMAGES = ['app:1', 'app:2'];
const NAMES = Array.from({ length: 8 }, (_, file) => `d${file % 2}/f${file}`);

const contentOf = (image: string, name: string) =>
  content(`${image}/${name}`, 300_000 + 100_000 * NAMES.indexOf(name));

/** Not from the page cache: the answer is the daemon's. */
async function read(path: string): Promise<Buffer> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECT);
  try {
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}

/** Kills the daemon and runs `meanwhile` before its supervisor starts another one. */
async function killed(fixture: DaemonFixture, meanwhile: () => Promise<void>): Promise<void> {
  const { pid } = await fixture.answer();
  fixture.supervisor.kill('SIGSTOP');
  try {
    process.kill(pid, 'SIGKILL');
    while (!/^State:\s+Z/m.test(await readFile(`/proc/${pid}/status`, 'utf8'))) await sleep(1);
    await meanwhile();
  } finally {
    fixture.supervisor.kill('SIGCONT');
  }
}

async function goesOn(t: ExecutionContext, spoil: (cache: string) => Promise<void>): Promise<void> {
  const fixture = await DaemonFixture.open(t);
  for (const image of IMAGES) {
    const files = Object.fromEntries(NAMES.map((name) => [name, contentOf(image, name)]));
    await addImage(fixture.store, image, [files]);
  }
  const cache = join(fixture.directory, 'cache');
  await mkdir(cache);
  addon.mount('none', cache, 'tmpfs', 0, 'size=96m');
  t.teardown(() => addon.umount(cache, MNT_DETACH));
  await fixture.start();
  const places: string[] = [];
  for (const image of IMAGES) places.push((await fixture.mount(image)).mountpoint);
  const check = async (names: readonly string[]) => {
    for (const [index, image] of IMAGES.entries())
      for (const name of names)
        t.true((await read(join(places[index]!, name))).equals(contentOf(image, name)), `${image} ${name}`);
  };
  await check(NAMES.slice(0, 4));
  const away = `${fixture.store}-away`;
  await rename(fixture.store, away);
  await killed(fixture, () => spoil(cache));
  t.is((await fixture.answer()).mounts, IMAGES.length);
  await writeFile('/proc/sys/vm/drop_caches', '2');
  for (const place of places) t.deepEqual((await readdir(place)).sort(), ['d0', 'd1']);
  const reading = check(NAMES);
  await rename(away, fixture.store);
  await reading;
  // A second time, by a daemon that begins with what the first one has made of it.
  await fixture.killDaemon();
  await check(NAMES);
  for (const { id } of await fixture.client.mounts()) {
    t.deepEqual((await fixture.client.mount(id)).errors, {});
    await fixture.client.removeMount(id);
  }
  t.deepEqual(await fixture.mounted(), []);
}

test('mounts whose cache is on a disk that is full are adopted, and reads are right', async (t) => {
  await goesOn(t, async (cache) => {
    // All that is free, and what the cache gives back.
    await run('sh', [
      '-c',
      'cat /dev/zero > "$1/filler" 2>/dev/null; df --output=avail "$1" | tail -1 | grep -qx " *0"',
      'sh',
      cache,
    ]);
  });
});

test('mounts that cannot be served yet, since cache and store are gone, are removed by force and end with the daemon', async (t) => {
  const fixture = await DaemonFixture.open(t);
  await addImage(fixture.store, 'app:1', [{ file: content('file', 5000) }]);
  await fixture.start();
  const [one, two] = [await fixture.mount('app:1'), await fixture.mount('app:1')];
  await killed(fixture, async () => {
    await rename(fixture.store, `${fixture.store}-away`);
    await rm(join(fixture.directory, 'cache/blobs'), { recursive: true });
  });
  t.is((await fixture.answer()).mounts, 2);
  t.deepEqual((await fixture.mounted()).length, 2);
  const { client, supervisor } = fixture;
  await t.throwsAsync(client.shutDown(), { code: 'BUSY', message: /^2 mounts left/ });
  const reading = readFile(join(one.mountpoint, 'file'));
  await client.removeMount(one.id, { force: true });
  await t.throwsAsync(reading);
  t.deepEqual(await fixture.mounted(), [two.mountpoint]);
  await t.throwsAsync(client.shutDown(), { code: 'BUSY', message: /^1 mount left/ });
  const ended = once(supervisor, 'exit');
  await client.shutDown(true);
  t.deepEqual(await ended, [0, null]);
  t.deepEqual(await fixture.mounted(), []);
});

test('mounts whose cache has become read-only are adopted, and reads are right', async (t) => {
  await goesOn(t, async (cache) => {
    await run('mount', ['-o', 'remount,ro', cache]);
  });
});
