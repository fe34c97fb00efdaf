/**
 * Mounts are removed by force while they are read: their readers end, and nothing stays, neither in the kernel nor with
 * the supervisor. How often: ORCA_REMOVALS (npm run soak:removals); the seed: ORCA_SEED.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { packageFile } from '../../src/installation.js';
import { findRunc } from '../../src/runtime/runc.js';
import { seeded } from '../cache/layer-fixture.js';
import { orca } from '../cli/orca.js';
import { DaemonFixture } from '../daemon/daemon-fixture.js';
import { addImage, content } from '../source/store-fixture.js';
import { expandBusybox } from './busybox-image.js';
import { MountReader, READER_KINDS } from './mount-readers.js';

const ROUNDS = Number(process.env['ORCA_REMOVALS'] ?? 4);
const SEED = Number(process.env['ORCA_SEED'] ?? 20261129);
const WAYS = ['request', 'two requests', 'command'] as const;
const ENDS_WITHIN = 30_000;
const FOREVER = 'while cat /bin/busybox > /dev/null; do :; done';

test(`readers of mounts that are removed by force end, ${ROUNDS} times`, async (t) => {
  t.timeout(60_000 + ROUNDS * 30_000);
  t.log(`seed ${SEED}`);
  const random = seeded(SEED);
  const fixture = await DaemonFixture.open(t);
  const { client, directory, store } = fixture;
  await expandBusybox(directory, store);
  const files = Object.fromEntries(
    Array.from({ length: 8 }, (_, file) => [
      `d${file % 2}/f${file}`,
      content(`f${file}`, 50_000 + file * 400_000),
    ]),
  );
  const copy = join(directory, 'copy');
  for (const [path, bytes] of Object.entries(files)) {
    await mkdir(dirname(join(copy, path)), { recursive: true });
    await writeFile(join(copy, path), bytes);
  }
  await addImage(store, 'app:1', [files]);
  const { pid, runDirectory } = await fixture.start({ cacheSize: 64 << 20 });
  const env = { ORCA_RUN_DIR: runDirectory, ORCA_CACHE: join(directory, 'cache'), ORCA_STORE: store };
  const path = dirname(await findRunc());
  for (let round = 0; round < ROUNDS; round++) {
    const { id, mountpoint } = await fixture.mount('app:1', `app-${round}`);
    const readers = READER_KINDS.map((kind, index) => new MountReader(kind, mountpoint, copy, SEED + index));
    const container = spawn(packageFile('native/build/orca'), ['run', 'busybox', 'sh', '-c', FOREVER], {
      env: { ...env, PATH: path },
      stdio: 'ignore',
    });
    const over = once(container, 'exit');
    const containers = async () => (await client.mounts()).filter((mount) => mount.container !== undefined);
    while ((await containers()).length === 0) await sleep(10);
    await sleep(random() * 500);
    const way = WAYS[round % WAYS.length];
    const [own] = await containers();
    // A container that has all it needs in the page cache would go on.
    container.kill('SIGKILL');
    const removals: Promise<unknown>[] = [client.removeMount(own!.id, { force: true })];
    if (way === 'command') {
      removals.push(
        orca(['umount', '--force', mountpoint], { env }).then(({ code, stderr }) => t.is(code, 0, stderr)),
      );
    } else {
      for (let i = 0; i < (way === 'request' ? 1 : 2); i++)
        removals.push(client.removeMount(id, { force: true }));
    }
    await Promise.all(removals);
    t.deepEqual(await client.mounts(), [], `round ${round}, ${way}`);
    const ends = [...readers.map((reader) => reader.stop().catch(() => undefined)), over];
    const ended = await Promise.race([Promise.all(ends), sleep(ENDS_WITHIN, undefined, { ref: false })]);
    t.truthy(ended, `round ${round}, ${way}: a process hangs`);
    if (!ended) return;
    const left = () => readdir(join(runDirectory, 'containers'));
    for (let tries = 0; tries < 1000 && (await left()).length > 0; tries++) await sleep(10);
    t.deepEqual(await left(), [], `round ${round}, ${way}: a container`);
    // The image of the container stays mounted for the next one, unless somebody wants the room.
    await client.prune();
    t.deepEqual(await fixture.mounted(), []);
    // The supervisor is told, and not waited for.
    for (let tries = 0; tries < 200 && (await fuseDescriptors(fixture.supervisor.pid)) > 0; tries++)
      await sleep(10);
    t.is(await fuseDescriptors(fixture.supervisor.pid), 0, `round ${round}, ${way}: the supervisor`);
    t.is(await fuseDescriptors(pid), 0, `round ${round}, ${way}: the daemon`);
  }
  t.is((await fixture.answer()).pid, pid);
});

async function fuseDescriptors(pid: number | undefined): Promise<number> {
  const directory = `/proc/${pid}/fd`;
  const targets = await Promise.all(
    (await readdir(directory)).map((fd) => readlink(join(directory, fd)).catch(() => '')),
  );
  return targets.filter((target) => target === '/dev/fuse').length;
}
