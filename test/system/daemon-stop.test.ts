/**
 * `orca daemon --stop --force` at any moment, while mounts are being made, read and adopted, and containers started:
 * daemon and supervisor end, and nothing stays mounted. How often: ORCA_STOPS; the seed: ORCA_SEED.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { packageFile } from '../../src/installation.js';
import { findRunc } from '../../src/runtime/runc.js';
import { seeded } from '../cache/layer-fixture.js';
import { DaemonFixture } from '../daemon/daemon-fixture.js';
import { expandBusybox } from './busybox-image.js';

const STOPS = Number(process.env['ORCA_STOPS'] ?? 6);
const SEED = Number(process.env['ORCA_SEED'] ?? 20261128);
const MOUNTS = 4;
/** Longest time from the first order to the stop, in milliseconds. */
const WITHIN = 400;
const ENDS_WITHIN = 30_000;
const launcher = packageFile('native/build/orca');

test(`daemon and supervisor end, whatever is going on, ${STOPS} times`, async (t) => {
  t.timeout(60_000 + STOPS * 20_000);
  t.log(`seed ${SEED}`);
  const random = seeded(SEED);
  const fixture = await DaemonFixture.open(t);
  await expandBusybox(fixture.directory, fixture.store);
  const env = {
    PATH: dirname(await findRunc()),
    ORCA_RUN_DIR: join(fixture.directory, 'run'),
    ORCA_CACHE: join(fixture.directory, 'cache'),
    ORCA_STORE: fixture.store,
  };
  for (let stop = 0; stop < STOPS; stop++) {
    await fixture.start();
    const { supervisor } = fixture;
    const orders: Promise<unknown>[] = [];
    for (let mount = 0; mount < MOUNTS; mount++) {
      const read = async () => {
        const { mountpoint } = await fixture.mount('busybox', `m${stop}-${mount}`);
        await once(spawn('cat', [join(mountpoint, 'bin/busybox')], { stdio: 'ignore' }), 'exit');
      };
      orders.push(sleep(random() * WITHIN).then(read));
    }
    const containers = [0, 1].map(() =>
      spawn(launcher, ['run', 'busybox', 'sleep', '1'], { env, stdio: 'ignore' }),
    );
    orders.push(...containers.map((container) => once(container, 'exit')));
    await sleep(random() * WITHIN);
    if (random() < 0.3) await fixture.killDaemon();
    const ended = supervisor.exitCode === null ? once(supervisor, 'exit') : Promise.resolve();
    await fixture.client.shutDown(true);
    const isOver = await Promise.race([ended.then(() => true), sleep(ENDS_WITHIN, false, { ref: false })]);
    t.true(isOver, `stop ${stop}: the supervisor runs on\n${fixture.log}`);
    await Promise.allSettled(orders);
    t.deepEqual(await fixture.mounted(), [], `stop ${stop}`);
    if (!isOver) return;
  }
});
