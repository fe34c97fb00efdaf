import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { SourceState } from '../../src/cache/source-state.js';
import { type Source, SourceError, type SourceKind } from '../../src/source/source.js';
import { log } from '../../src/telemetry/logger.js';

const LAYER = `sha256:${'a'.repeat(64)}`;
const FAILURE = { code: 'UNREACHABLE', message: 'away', at: 0 };

/** A source of one layer that can be taken away. */
class Switched implements Source {
  readonly kind: SourceKind = 'smb';
  readonly location = 'smb://switched';
  failure: SourceError | undefined;
  opened = 0;

  async readFile(): Promise<Uint8Array> {
    throw new SourceError('NOT_FOUND', 'nothing here');
  }

  async openLayer() {
    this.opened += 1;
    const { failure } = this;
    if (failure) throw failure;
    return {
      size: 8192,
      read: async (_: number, length: number) => new Uint8Array(length),
      close: async () => {},
    };
  }

  async close(): Promise<void> {}
}

const away = new SourceError('UNREACHABLE', 'away', { retryable: true });

function failing(): { source: Switched; state: SourceState; said: string[] } {
  const source = new Switched();
  source.failure = away;
  const said: string[] = [];
  const state = new SourceState(source, { ...log, info: (message) => void said.push(message) });
  return { source, state, said };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(10);
}

test('a source that fails is probed in the background until it is back', async (t) => {
  const { source, state, said } = failing();
  state.use(LAYER);
  state.failed(state.begin(), FAILURE, true, performance.now());
  t.false(state.healthy);
  t.false(state.away);
  await until(() => source.opened >= 3);
  t.true(state.away);
  source.failure = undefined;
  await until(() => state.healthy);
  t.deepEqual(said, ['smb://switched is back']);
  const { opened } = source;
  await sleep(500);
  t.is(source.opened, opened, 'what is well is not probed');
});

test('a server that answers a probe with a refusal is back', async (t) => {
  const { source, state } = failing();
  state.use(LAYER);
  source.failure = new SourceError('NOT_FOUND', 'no such layer');
  state.failed(state.begin(), FAILURE, true, performance.now());
  await until(() => state.healthy);
  t.is(source.opened, 1);
});

test('nobody is asked for a source that nobody uses', async (t) => {
  const { source, state } = failing();
  state.failed(state.begin(), FAILURE, true, performance.now());
  await sleep(500);
  t.is(source.opened, 0);
  state.use(LAYER);
  state.use(LAYER);
  state.leave(LAYER);
  await until(() => source.opened > 0);
  state.leave(LAYER);
  const { opened } = source;
  await sleep(1000);
  t.true(source.opened <= opened + 1, 'at most the probe that was under way');
});

test('reads that fail together count once, and pauses grow with jitter', (t) => {
  const { state } = failing();
  const attempts = [state.begin(), state.begin(), state.begin()];
  for (const attempt of attempts) state.failed(attempt, FAILURE, true, 0);
  t.false(state.away);
  t.true(state.usableAt >= 50 && state.usableAt <= 100);
  for (let i = 0; i < 10; i++) state.failed(state.begin(), FAILURE, true, 0);
  t.true(state.away);
  t.true(state.usableAt >= 1500 && state.usableAt <= 3000);
});
