/** The soak of the registry, for a short time; `npm run soak:registry` is the long one. */
import test from 'ava';
import { expansionFaults } from '../soak/expansion-check.js';
import { soak, soakImages } from '../soak/registry-soak.js';
import { RegistryProcess } from './registry-process.js';

test('clients push and pull while the registry is killed: what it acknowledged is there, and expanded', async (t) => {
  const seed = Number(process.env['ORCA_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  t.log(`seed ${seed}`);
  const options = {
    seed,
    clients: 6,
    images: 24,
    layers: 24,
    layerBytes: 512 << 10,
    killEvery: [500, 1000],
    kills: 3,
  } as const;
  const registry = await RegistryProcess.start();
  try {
    const report = await soak(registry, options);
    t.deepEqual(report.faults, []);
    t.true(report.kills >= options.kills && report.broken > 0, JSON.stringify(report));
    t.deepEqual(await expansionFaults(registry, soakImages(options)), []);
  } finally {
    await registry.stop();
  }
});
