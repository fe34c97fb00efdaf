import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { ProfileRecorder } from '../../src/cache/profile-recorder.js';
import { ProfileStore } from '../../src/cache/profile-store.js';

const IMAGE = `sha256:${'1'.repeat(64)}`;
const LAYER = `sha256:${'2'.repeat(64)}`;

test('what a mount saves again and again is one run, and what others have saved meanwhile stays', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'orca-recorder-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const store = new ProfileStore(directory);
  const begin = (blocks: readonly number[]) => {
    const touches = [...blocks].map((block, time) => ({ device: 0, block, time }));
    const mount = { manifestDigest: IMAGE, layers: [LAYER], touched: () => touches };
    return { recorder: new ProfileRecorder(store, mount), touches };
  };
  const known = async () => {
    const profile = await store.read(IMAGE);
    const blocks = profile?.entries.flatMap(({ block, count }) =>
      Array.from({ length: count }, (_, i) => block + i),
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
});
