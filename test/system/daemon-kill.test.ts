/**
 * Readers of several mounts, while the daemon is killed again and again, replaced, and its share restarted. How often:
 * ORCA_KILLS (npm run soak:daemon); the seed: ORCA_SEED.
 */
import { constants } from 'node:fs';
import { mkdir, open, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { daemonCommand } from '../../src/daemon/start.js';
import { seeded } from '../cache/layer-fixture.js';
import { DaemonFixture } from '../daemon/daemon-fixture.js';
import { addImage, content } from '../source/store-fixture.js';
import { MountReader, READER_KINDS } from './mount-readers.js';

const KILLS = Number(process.env['ORCA_KILLS'] ?? 5);
const SEED = Number(process.env['ORCA_SEED'] ?? 20261124);
const IMAGES = 3;
const READERS = 10;
/** Not from the page cache: the answer is the daemon's. */
const DIRECT = constants.O_RDONLY | constants.O_DIRECT;

test(`${READERS} readers notice nothing of ${KILLS} kills and replacements of the daemon`, async (t) => {
  t.timeout(600_000);
  t.log(`seed ${SEED}`);
  const random = seeded(SEED);
  const fixture = await DaemonFixture.open(t);
  for (let image = 0; image < IMAGES; image++) {
    const files: Record<string, Buffer> = {};
    for (let file = 0; file < 12; file++) {
      const path = `d${file % 3}/f${file}`;
      files[path] = content(`${image}/${path}`, 20_000 + file * 90_000);
      const copy = join(fixture.directory, 'copy', String(image), path);
      await mkdir(dirname(copy), { recursive: true });
      await writeFile(copy, files[path]);
    }
    await addImage(fixture.store, `app:${image}`, [files], 131_072);
  }
  await fixture.start();
  const trees: string[] = [];
  for (let image = 0; image < IMAGES; image++) trees.push((await fixture.mount(`app:${image}`)).mountpoint);
  const readers = Array.from({ length: READERS }, (_, i) => {
    const image = i % IMAGES;
    const kind = READER_KINDS[i % READER_KINDS.length] ?? 'walk';
    return new MountReader(
      kind,
      trees[image] ?? '',
      join(fixture.directory, 'copy', String(image)),
      SEED + i,
    );
  });
  const away: number[] = [];
  const adoptions: number[] = [];
  for (let kill = 0; kill < KILLS; kill++) {
    await sleep(100 + random() * 400);
    const before = await fixture.answer();
    const began = performance.now();
    if (kill % 5 === 4) {
      const place = { socket: fixture.client.socket, runDirectory: before.runDirectory, cache: before.cache };
      await fixture.client.replace(daemonCommand(place));
    } else {
      process.kill(before.pid, 'SIGKILL');
    }
    const handle = await open(join(trees[kill % IMAGES] ?? '', 'd0/f0'), DIRECT);
    await handle.read(Buffer.alloc(4096), 0, 4096, 0);
    await handle.close();
    away.push(performance.now() - began);
    let after = await fixture.answer();
    for (; after.startedAt === before.startedAt; after = await fixture.answer()) await sleep(5);
    t.is(after.mounts, IMAGES);
    adoptions.push(after.adoption.milliseconds);
    // So that names and attributes are asked for anew.
    await writeFile('/proc/sys/vm/drop_caches', '2');
  }
  const counts = await Promise.all(readers.map((reader) => reader.stop()));
  t.true(counts.every((count) => count > 0));
  for (const { id } of await fixture.client.mounts()) {
    const { errors, readsWaiting } = await fixture.client.mount(id);
    t.deepEqual(errors, {});
    t.is(readsWaiting, 0);
  }
  t.log(`${counts.reduce((a, b) => a + b, 0)} comparisons by ${READERS} readers`);
  t.log(
    `kill to a read answered: ${spread(away)}; start of the daemon to all sessions: ${spread(adoptions)}`,
  );
});

function spread(values: readonly number[]): string {
  const sorted = [...values].sort((a, b) => a - b).map(Math.round);
  return `median ${sorted[Math.floor(sorted.length / 2)]} ms, worst ${sorted.at(-1)} ms`;
}
