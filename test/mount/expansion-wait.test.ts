import test from 'ava';
import { awaitExpansion, describeProgress } from '../../src/mount/expansion-wait.js';
import type { LayerProgress } from '../../src/source/mount-description.js';
import type { RegistryImage } from '../../src/source/registry-image.js';

const layer = (status: string, reason?: string): LayerProgress => ({
  diffID: undefined,
  digest: undefined,
  status,
  reason,
});

function answers(...states: string[]): () => Promise<RegistryImage> {
  return async () => {
    const state = states.length > 1 ? states.shift() : states[0];
    return { state, layers: [layer(`${states.length} left`)] } as unknown as RegistryImage;
  };
}

test('the question is asked again until the image is expanded', async (t) => {
  const told: string[] = [];
  const answer = await awaitExpansion(answers('expanding', 'expanding', 'ready'), {
    timeout: 60_000,
    signal: undefined,
    onExpanding: ([first]) => void told.push(first?.status ?? ''),
  });
  t.is(answer.state, 'ready');
  t.deepEqual(told, ['2 left', '1 left']);
});

test('after the time-out what was said last is the answer; without one there is no wait', async (t) => {
  for (const timeout of [0, 300]) {
    const answer = await awaitExpansion(answers('expanding'), { timeout, signal: undefined });
    t.is(answer.state, 'expanding');
  }
});

test('an interruption ends the wait', async (t) => {
  const reason = new Error('enough');
  const wait = { timeout: 60_000, signal: AbortSignal.abort(reason) };
  t.is(await t.throwsAsync(awaitExpansion(answers('expanding'), wait)), reason);
});

test('progress says how many layers are done, and each reason once', (t) => {
  t.is(describeProgress([]), 'it does not say how far it is');
  t.is(
    describeProgress([layer('expanded'), layer('queued', 'disk full'), layer('failed', 'disk full')]),
    '1 of 3 layers are done; disk full',
  );
});
