/** `npm run soak:registry [-- SEED]`: the whole soak of the registry; ends with 1 when anything is wrong. */
import { RegistryProcess } from '../system/registry-process.js';
import { expansionFaults } from './expansion-check.js';
import { soak, soakImages } from './registry-soak.js';

const options = {
  seed: Number(process.argv[2] ?? Math.floor(Math.random() * 2 ** 31)),
  clients: 20,
  images: 200,
  layers: 150,
  layerBytes: 8 << 20,
  killEvery: [3000, 3000],
  kills: 25,
  killToTheEnd: true,
  log: (line: string) => console.log(`# ${line}`),
} as const;

console.log(`# seed ${options.seed}`);
const registry = await RegistryProcess.start();
try {
  const report = await soak(registry, options);
  const began = performance.now();
  const faults = [...report.faults, ...(await expansionFaults(registry, soakImages(options)))];
  const expandedAfter = (performance.now() - began) / 1000;
  console.log(JSON.stringify({ ...report, expandedAfter, faults }, undefined, 2));
  process.exitCode = faults.length === 0 ? 0 : 1;
} finally {
  await registry.stop();
}
