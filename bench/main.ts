/**
 * `npm run bench -- [WORKLOAD…] [--json FILE] [--repetitions N]`: runs workloads, prints a table, and writes
 * `{"machine": {…}, "figures": {"name": number}}`. One file per workload in bench/workloads/.
 */
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { machine } from './machine.js';
import type { Figures, Workload } from './workload.js';

const usage = 'usage: npm run bench -- [WORKLOAD…] [--json FILE] [--repetitions N]';

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { json: { type: 'string' }, repetitions: { type: 'string', default: '7' } },
  });
  const repetitions = Number(values.repetitions);
  if (!Number.isInteger(repetitions) || repetitions < 1) throw new Error(usage);
  const workloads = await loadWorkloads(positionals);
  if (process.getuid?.() !== 0)
    throw new Error('the benchmarks mount, drop caches and run containers: run as root');
  const facts = await machine(tmpdir());
  console.log(
    Object.entries(facts)
      .map(([name, value]) => `${name} ${value}`)
      .join(', '),
  );
  const figures: Figures = {};
  const failed: string[] = [];
  for (const [name, workload] of workloads) {
    console.log(`\n${name}`);
    try {
      const results = await runWorkload(workload, repetitions);
      Object.assign(figures, results);
      printTable(workload, results);
    } catch (error) {
      failed.push(name);
      console.error(`  failed: ${(error as Error).stack}`);
    }
  }
  if (values.json !== undefined) {
    await writeFile(values.json, `${JSON.stringify({ machine: facts, figures }, null, 2)}\n`);
  }
  if (failed.length > 0) throw new Error(`failed: ${failed.join(', ')}`);
}

async function loadWorkloads(wanted: readonly string[]): Promise<[string, Workload][]> {
  const directory = join(import.meta.dirname, 'workloads');
  const files = (await readdir(directory)).filter((name) => name.endsWith('.js'));
  const names = files.map((name) => name.slice(0, -'.js'.length)).sort();
  const unknown = wanted.find((name) => !names.includes(name));
  if (unknown !== undefined)
    throw new Error(`no workload ${unknown}; there are ${names.join(', ')}\n${usage}`);
  const chosen = wanted.length > 0 ? wanted : names;
  return Promise.all(
    chosen.map(async (name): Promise<[string, Workload]> => {
      const { workload } = (await import(join(directory, `${name}.js`))) as { workload: Workload };
      return [name, workload];
    }),
  );
}

async function runWorkload(workload: Workload, repetitions: number): Promise<Figures> {
  const work = await mkdtemp(join(tmpdir(), 'orca-bench-'));
  const undo: (() => unknown)[] = [];
  try {
    return await workload.run({
      work,
      repetitions,
      defer: (action) => undo.push(action),
      note: (text) => console.log(`  ${text}`),
    });
  } finally {
    for (const action of undo.reverse()) await action();
    await rm(work, { recursive: true, force: true });
  }
}

function printTable(workload: Workload, results: Figures): void {
  for (const [name, value] of Object.entries(results)) {
    const { meaning, aim } = workload.figures[name] ?? { meaning: 'not described' };
    const number = value >= 1000 ? value.toFixed(0) : value.toPrecision(3);
    console.log(
      `  ${name.padEnd(36)} ${number.padStart(10)}  ${meaning}${aim === undefined ? '' : ` (aim ${aim})`}`,
    );
  }
}

main().catch((error: Error) => {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
});
