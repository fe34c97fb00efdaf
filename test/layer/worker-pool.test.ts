import test from 'ava';
import { WorkerPool } from '../../src/layer/worker-pool.js';
import type { ExpansionTasks } from '../../src/registry/expansion/worker-messages.js';

test('owners take turns: one with many tasks does not hold up another with one', async (t) => {
  const pool = new WorkerPool<ExpansionTasks>({ entry: 'expansion-worker', workers: 1, memory: 256 });
  const order: string[] = [];
  const run = (owner: string) =>
    // Each fails, since there is no such store; the order is what matters.
    pool
      .run(
        {
          kind: 'expand',
          store: '/nonexistent',
          blob: { mediaType: 'x', digest: `sha256:${'0'.repeat(64)}`, size: 1 },
          diffID: `sha256:${'0'.repeat(64)}`,
        },
        { owner, signal: new AbortController().signal, onStart: () => order.push(owner) },
      )
      .catch(() => undefined);
  await Promise.all([...Array(5)].map(() => run('many')).concat(run('one'), run('two')));
  t.deepEqual(order.slice(0, 4).sort(), ['many', 'many', 'one', 'two']);
  t.is(order.length, 7);
  await pool.close();
});
