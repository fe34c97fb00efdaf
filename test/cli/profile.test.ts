import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import { ProfileStore } from '../../src/cache/profile-store.js';
import { StartupProfile } from '../../src/cache/startup-profile.js';
import { FileSource } from '../../src/source/file-source.js';
import { loadImage } from '../../src/source/remote-image.js';
import { addImage, content } from '../source/store-fixture.js';
import { isOneLine, orca } from './orca.js';

async function place(t: ExecutionContext) {
  const directory = await mkdtemp(join(tmpdir(), 'orca-profile-cli-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const store = join(directory, 'store');
  await addImage(store, 'app:0', [{ one: content('one', 300_000) }]);
  const image = await addImage(store, 'app:1', [{ one: content('one', 400_000) }]);
  for (const folder of ['locks', 'tmp']) await mkdir(join(store, folder));
  const profile = StartupProfile.record(
    [{ device: 0, block: 0, time: 0 }],
    image.layers.map(({ digests }) => digests.diffID),
    [{ kind: 'pages', path: 'one', first: 0, count: 98, time: 1 }],
  );
  await new ProfileStore(join(directory, 'recording')).write(image.manifestDigest, profile.encode());
  /** On a host with this cache. */
  const on = (cache: string, command: string, ...more: string[]) =>
    orca([
      ...['profile', command, 'app:1', '--store', store, '--config', '/dev/null'],
      ...['--cache', join(directory, cache), ...more],
    ]);
  return { on, image, directory, store, profile };
}

test('what one host has pushed into a store, another shows', async (t) => {
  const { on, image, directory, store, profile } = await place(t);
  const before = await on('other', 'show');
  t.is(before.code, 1);
  t.true(isOneLine(before), before.stderr);
  t.regex(
    before.stderr,
    /there is no startup profile of app:1: one is recorded when a container of it runs here/,
  );
  t.is((await on('other', 'push')).code, 1);

  // A host that has run another version says what it does without one.
  const cache = await BlockCache.open(join(directory, 'earlier'));
  const earlier = await loadImage(new FileSource(store), 'app:0', cache.directory);
  (await cache.images.begin(earlier))();
  await cache.profiles.write(earlier.manifestDigest, profile.encode());
  cache.close();
  const helped = await on('earlier', 'show');
  t.is(helped.code, 1);
  t.true(isOneLine(helped), helped.stderr);
  t.regex(helped.stderr, /no startup profile of app:1: .*; that start is helped by the one of app:0/);

  const pushed = await on('recording', 'push');
  t.is(pushed.code, 0, pushed.stderr);
  t.is(pushed.stdout, `app:1 ${image.manifestDigest}: of this host, 1 run, 1 block, 1 step\n`);
  const { stdout } = await on('other', 'show');
  t.regex(stdout, /^app:1 sha256:[0-9a-f]{64}: published, 1 run, 1 block, 1 step$/m);
  t.regex(stdout, /^layer 0 {2}\|0{64}\| {2}131 kB$/m);
  t.regex(stdout, /^1 ms +\/one +page 0 +401 kB +1 of 1$/m);
  const json = JSON.parse((await on('recording', 'show', '--json')).stdout);
  t.deepEqual(
    [json.from, json.runs, json.steps],
    ['host', 1, [{ kind: 'pages', path: '/one', first: 0, count: 98, time: 1, seen: 1 }]],
  );
});
