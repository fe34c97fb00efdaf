import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { withDiskReserve } from '../../src/registry/expansion/disk-reserve.js';

test('an expansion ends, to be tried again, before the disk is full', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'orca-reserve-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', directory]);
  t.teardown(() => {
    execFileSync('umount', [directory]);
    rmdirSync(directory);
  });
  const { signal } = new AbortController();
  t.is(await withDiskReserve(directory, signal, async () => 'done'), 'done');
  const filling = withDiskReserve(directory, signal, async (either) => {
    writeFileSync(join(directory, 'layer'), Buffer.alloc(7.8 * 2 ** 20));
    await sleep(60_000, undefined, { signal: either }).catch(() => either.throwIfAborted());
  });
  await t.throwsAsync(filling, { code: 'NO_SPACE' });
  await t.throwsAsync(
    withDiskReserve(directory, signal, async () => t.fail()),
    { code: 'NO_SPACE' },
  );
});
