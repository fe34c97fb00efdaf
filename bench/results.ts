/**
 * The results of a run, as JSON:
 * `{"machine": {…}, "figures": {"name": number}, "workloads": {"name": WorkloadResult}}`. They are written after every
 * workload, so that a run that was cut off can be resumed.
 */
import { readFile, rename, writeFile } from 'node:fs/promises';
import type { Machine } from './machine.js';
import type { Chart, Figures, Workload } from './workload.js';

export interface WorkloadResult {
  figures: Figures;
  charts: Chart[];
  notes: string[];
  /** ISO 8601. */
  date: string;
  seconds: number;
  repetitions: number;
  /** Processes that wanted to run, over the minute before the workload and over its last. */
  load: [before: number, after: number];
  /** Of its figures, as the workload describes them. */
  described: Workload['figures'];
}

export interface Results {
  machine: Machine;
  figures: Figures;
  workloads: Record<string, WorkloadResult>;
}

/** Throws an Error that names the file when it is not there or holds something else. */
export async function readResults(file: string): Promise<Results> {
  try {
    const { machine, workloads } = JSON.parse(await readFile(file, 'utf8')) as Partial<Results>;
    if (machine === undefined || workloads === undefined)
      throw new Error('it has no "machine", or no "workloads"');
    return { machine, workloads, figures: figuresOf(workloads) };
  } catch (cause) {
    throw new Error(`${file} holds no results of the benchmark: ${(cause as Error).message}`, { cause });
  }
}

export async function writeResults(file: string, results: Results): Promise<void> {
  const { machine, workloads } = results;
  const text = JSON.stringify({ machine, figures: figuresOf(workloads), workloads }, null, 2);
  await writeFile(`${file}.new`, `${text}\n`);
  await rename(`${file}.new`, file);
}

export function figuresOf(workloads: Results['workloads']): Figures {
  return Object.assign({}, ...Object.values(workloads).map(({ figures }) => figures)) as Figures;
}

/** Whether a figure reaches an aim such as `≥ 3`, `< 1`; undefined where there is no aim. */
export function reaches(value: number, aim: string | undefined): boolean | undefined {
  const [, comparison, number] = aim?.match(/^(≥|≤|<|>) ([\d.]+)$/) ?? [];
  if (comparison === undefined) return undefined;
  const limit = Number(number);
  const reached = { '≥': value >= limit, '≤': value <= limit, '<': value < limit, '>': value > limit };
  return reached[comparison as keyof typeof reached];
}

/** Three digits that count, and no exponent. */
export function numberText(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}
