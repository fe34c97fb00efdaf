import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { firstReady } from '../../src/mount/first-ready.js';
import type { OpenedImage } from '../../src/mount/open-image.js';
import type { ReadyImage, RegistryImage } from '../../src/source/registry-image.js';

/** Rejects when the signal comes. */
function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
}

function opened(closed: string[]): OpenedImage {
  return { close: async () => void closed.push('host') } as unknown as OpenedImage;
}

function ready(closed: string[]): ReadyImage {
  const source = { close: async () => void closed.push('registry') };
  return { state: 'ready', sources: [source] } as unknown as ReadyImage;
}

const later = (state: string) => ({ state }) as unknown as RegistryImage;

test('the host is stopped when the registry is done first', async (t) => {
  const image = ready([]);
  let stopped = false;
  const first = await firstReady({
    host: (signal) =>
      aborted(signal).catch((error) => {
        stopped = true;
        throw error;
      }),
    registry: async () => image,
    signal: undefined,
  });
  t.is(first, image);
  t.true(stopped);
});

test('the registry is asked no more when the host is done first', async (t) => {
  const image = opened([]);
  let asked: AbortSignal | undefined;
  const first = await firstReady({
    host: async () => image,
    registry: (signal) => {
      asked = signal;
      return aborted(signal);
    },
    signal: undefined,
  });
  t.is(first, image);
  t.true(asked?.aborted);
});

test('what the slower one has opened nevertheless is closed', async (t) => {
  const closed: string[] = [];
  await firstReady({
    host: async () => (await sleep(20), opened(closed)),
    registry: async () => ready(closed),
    signal: undefined,
  });
  t.deepEqual(closed, ['host']);
  await firstReady({
    host: async () => opened(closed),
    registry: async () => (await sleep(20), ready(closed)),
    signal: undefined,
  });
  await sleep(40);
  t.deepEqual(closed, ['host', 'registry']);
});

test('a host that cannot leaves it to the registry; where that cannot either, the failure is the host’s', async (t) => {
  const image = ready([]);
  const failure = new Error('no space');
  const host = async () => {
    throw failure;
  };
  t.is(await firstReady({ host, registry: async () => (await sleep(10), image), signal: undefined }), image);
  for (const registry of [async () => later('expanding'), async () => Promise.reject(new Error('away'))]) {
    t.is(await t.throwsAsync(firstReady({ host, registry, signal: undefined })), failure);
  }
});

test('an interruption ends both', async (t) => {
  const reason = new Error('enough');
  const stop = new AbortController();
  const contest = firstReady({ host: aborted, registry: aborted, signal: stop.signal });
  stop.abort(reason);
  t.is(await t.throwsAsync(contest), reason);
});
