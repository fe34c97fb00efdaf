import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { ProfileRecorder, type RecordedMount } from '../../src/cache/profile-recorder.js';
import { ProfileStore } from '../../src/cache/profile-store.js';
import { StartupProfile } from '../../src/cache/startup-profile.js';
import type { Access } from '../../src/native/addon.js';

const IMAGE = `sha256:${'1'.repeat(64)}`;
const LAYER = `sha256:${'2'.repeat(64)}`;

test('what a mount saves again and again is one run, and what others have saved meanwhile stays', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'orca-recorder-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const store = new ProfileStore(directory);
  const begin = (blocks: readonly number[], preloaded?: StartupProfile) => {
    const touches = [...blocks].map((block, time) => ({ device: 0, block, time }));
    const accesses: Access[] = [];
    const mount: RecordedMount = {
      manifestDigest: IMAGE,
      layers: [LAYER],
      touched: () => touches,
      accesses: () => accesses,
      preloaded: () => preloaded,
    };
    return { recorder: new ProfileRecorder(store, mount), touches, accesses };
  };
  const known = async () => {
    const profile = await store.read(IMAGE);
    const blocks = profile?.entries.flatMap(({ first, count }) =>
      Array.from({ length: count }, (_, i) => first + i),
    );
    return [profile?.runs, blocks?.sort((a, b) => a - b)];
  };

  const idle = begin([]);
  await idle.recorder.save();
  await idle.recorder.end();
  t.deepEqual(await known(), [undefined, undefined]);

  const one = begin([5, 6]);
  await one.recorder.save();
  t.deepEqual(await known(), [1, [5, 6]]);
  one.touches.push({ device: 0, block: 9, time: 40 });
  await Promise.all([one.recorder.save(), one.recorder.save()]);
  t.deepEqual(await known(), [1, [5, 6, 9]]);

  const other = begin([5, 7]);
  await other.recorder.end();
  t.deepEqual(await known(), [2, [5, 6, 7, 9]]);
  one.touches.push({ device: 0, block: 11, time: 50 });
  await one.recorder.end();
  t.deepEqual(await known(), [2, [5, 6, 7, 9]]);

  // What was walked through the mount counts as asked for; what else was asked for is added.
  const name = (path: string): Access => ({ kind: 'name', path, first: 0, count: 1, time: 1 });
  const preloaded = StartupProfile.record(
    [{ device: 0, block: 5, time: 0 }],
    [LAYER],
    [name('bin'), name('etc')],
  );
  const ahead = begin([8], preloaded);
  ahead.accesses.push(name('usr'));
  await ahead.recorder.end();
  const merged = await store.read(IMAGE);
  t.is(merged?.runs, 3);
  t.deepEqual(merged?.steps.map(({ path, seen }) => `${path} ${seen}`).sort(), ['bin 1', 'etc 1', 'usr 1']);
  t.is(merged?.entries.find(({ first }) => first === 5)?.seen, 3);
});
