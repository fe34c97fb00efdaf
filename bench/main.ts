/**
 * `npm run bench -- [WORKLOAD…] [--json FILE] [--html FILE] [--repetitions N] [--resume] [--quick]`: runs workloads,
 * one file each in bench/workloads/, prints a table, and writes the results (results.ts) and a page with charts.
 * `--resume` leaves out what FILE has already; without any workload to run it only writes the page.
 */
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { mountsBelow } from '../test/cli/orca.js';
import { run } from '../test/system/command.js';
import { machine } from './machine.js';
import { htmlReport } from './report/html.js';
import {
  numberText,
  type Results,
  reaches,
  readResults,
  type WorkloadResult,
  writeResults,
} from './results.js';
import type { Chart, Workload } from './workload.js';

const usage =
  'usage: npm run bench -- [WORKLOAD…] [--json FILE] [--html FILE] [--repetitions N] [--resume] [--quick] [--list]';

/** What `--quick` runs: each figure of daily work, the images of the table that are quickly pulled. */
const QUICK = ['fuse', 'smb', 'warm-start', 'cold-bytes', 'layers', 'table-tiny', 'table-182mb'];
const QUICK_REPETITIONS = '2';

/** Rejects at SIGINT and SIGTERM, so that a workload that is interrupted is cleaned up, too. */
const interrupted = new Promise<never>((_, reject) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => reject(new Error(signal)));
});
interrupted.catch(() => {
  process.exitCode = 130;
});

interface Options {
  repetitions: number;
  quick: boolean;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: 'string' },
      html: { type: 'string' },
      repetitions: { type: 'string' },
      resume: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
    },
  });
  const { json, html, quick, resume } = values;
  const repetitions = Number(values.repetitions ?? (quick ? QUICK_REPETITIONS : '7'));
  if (!Number.isInteger(repetitions) || repetitions < 1) throw new Error(usage);
  if (resume && json === undefined) throw new Error('--resume needs --json FILE');
  const workloads = await loadWorkloads(positionals.length === 0 && quick ? QUICK : positionals);
  if (values.list) {
    for (const [name, { figures }] of workloads) console.log(`${name}: ${Object.keys(figures).join(', ')}`);
    return;
  }
  if (process.getuid?.() !== 0)
    throw new Error('the benchmarks mount, drop caches and run containers: run as root');
  const earlier = resume && json !== undefined ? await readResults(json).catch(() => undefined) : undefined;
  const results: Results = earlier ?? { machine: await machine(tmpdir()), figures: {}, workloads: {} };
  console.log(
    Object.entries(results.machine)
      .map(([name, value]) => `${name} ${value}`)
      .join(', '),
  );
  const todo = workloads.filter(([name]) => results.workloads[name] === undefined);
  const failed: string[] = [];
  for (const [index, [name, workload]] of todo.entries()) {
    console.log(`\n${name} (${index + 1} of ${todo.length}, load ${loadavg()[0]!.toFixed(1)})`);
    const reason = await workload.unavailable?.();
    if (reason !== undefined) {
      console.log(`  left out: ${reason}`);
      continue;
    }
    try {
      const result = await runWorkload(workload, { repetitions, quick });
      results.workloads[name] = result;
      printTable(result);
      if (json !== undefined) await writeResults(json, results);
    } catch (error) {
      failed.push(name);
      console.error(`  failed: ${(error as Error).stack}`);
      if (process.exitCode !== undefined) break;
    }
  }
  if (html !== undefined) await writeFile(html, htmlReport(results));
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

async function runWorkload(workload: Workload, { repetitions, quick }: Options): Promise<WorkloadResult> {
  const work = await mkdtemp(join(tmpdir(), 'orca-bench-'));
  const undo: (() => unknown)[] = [];
  const [notes, charts]: [string[], Chart[]] = [[], []];
  const began = performance.now();
  const load = loadavg()[0]!;
  const date = new Date().toISOString();
  let failure: unknown;
  try {
    const running = workload.run({
      work,
      repetitions,
      quick,
      defer: (action) => undo.push(action),
      note: (text) => {
        notes.push(text);
        console.log(`  ${text}`);
      },
      progress: (text) => console.log(`  … ${text} (${((performance.now() - began) / 1000).toFixed(0)} s)`),
      chart: (chart) => charts.push(chart),
    });
    const figures = await Promise.race([running, interrupted]);
    const seconds = Math.round((performance.now() - began) / 1000);
    const described = workload.figures;
    return { figures, charts, notes, date, seconds, repetitions, load: [load, loadavg()[0]!], described };
  } catch (error) {
    failure = error;
    throw error;
  } finally {
    await cleanUp(work, undo, failure !== undefined);
  }
}

/** Every action is tried, so that one that fails leaves nothing else behind. */
async function cleanUp(work: string, undo: readonly (() => unknown)[], failed: boolean): Promise<void> {
  const problems: string[] = [];
  for (const action of undo.toReversed()) {
    try {
      await action();
    } catch (error) {
      problems.push((error as Error).message);
    }
  }
  for (const point of (await mountsBelow(work)).reverse()) {
    problems.push(`${point} was still mounted`);
    await run('umount', ['--lazy', point]).catch((error: Error) => problems.push(error.message));
  }
  await rm(work, { recursive: true, force: true }).catch((error: Error) => problems.push(error.message));
  for (const problem of problems) console.error(`  cleaning up: ${problem}`);
  if (problems.length > 0 && !failed) throw new Error('a workload left something behind');
}

function printTable({ figures, described }: WorkloadResult): void {
  for (const [name, value] of Object.entries(figures)) {
    const { meaning, aim } = described[name] ?? { meaning: 'not described' };
    const reached = reaches(value, aim);
    const verdict = aim === undefined ? '' : ` (aim ${aim}${reached === false ? ', missed' : ''})`;
    console.log(`  ${name.padEnd(36)} ${numberText(value).padStart(10)}  ${meaning}${verdict}`);
  }
}

main().catch((error: Error) => {
  console.error(`bench: ${error.message}`);
  process.exitCode ??= 1;
});
