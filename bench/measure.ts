/** Measuring two sides in turn, so that what disturbs the machine disturbs both. */
import { readFile, writeFile } from 'node:fs/promises';
import { packageFile } from '../src/installation.js';
import { run } from '../test/system/command.js';

/** One side: a measurement in any unit, of one repetition. */
export type Side = () => Promise<number>;

export interface Measured<Name extends string> {
  median: Record<Name, number>;
  /** Median over the rounds of one side ÷ the other: what disturbs a whole round cancels out. */
  ratio(of: Name, to: Name): number;
}

/** Measures the sides in turn, `repetitions` times, after one round that does not count. */
export async function interleaved<Name extends string>(
  sides: Record<Name, Side>,
  repetitions: number,
): Promise<Measured<Name>> {
  const names = Object.keys(sides) as Name[];
  const rounds: Record<Name, number>[] = [];
  for (let number = -1; number < repetitions; number++) {
    const round = {} as Record<Name, number>;
    // The order alternates, so that neither side always follows the other.
    for (const name of number % 2 === 0 ? names : names.toReversed()) round[name] = await sides[name]();
    if (number >= 0) rounds.push(round);
  }
  const medians = names.map((name) => [name, median(rounds.map((round) => round[name]))]);
  return {
    median: Object.fromEntries(medians),
    ratio: (of, to) => median(rounds.map((round) => round[of] / round[to])),
  };
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Seconds that it took. */
export async function seconds(action: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await action();
  return (performance.now() - began) / 1000;
}

/** Ticks of /proc/PID/stat per second: always 100 for user space (proc(5), sysconf(3)). */
const TICKS = 100;

/** CPU seconds, user and system, that a process has used in all its threads. */
export async function cpuSeconds(pid: number): Promise<number> {
  const fields = await processStatus(pid);
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

/** Fields of /proc/PID/stat from the third on, the state. */
async function processStatus(pid: number): Promise<string[]> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1');
  // The name, in parentheses, may hold anything.
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

/** Bytes of memory that a process had at most, since it was started. */
export async function peakMemory(pid: number): Promise<number> {
  const kilobytes = (await readFile(`/proc/${pid}/status`, 'latin1')).match(/^VmHWM:\s+(\d+) kB$/m)?.[1];
  if (kilobytes === undefined) throw new Error(`process ${pid} says nothing of its memory`);
  return Number(kilobytes) * 1024;
}

/** Programs of a host that runs containers: a host without an image has them in memory all the same. */
const HOST_PROGRAMS = [
  'runc',
  'skopeo',
  'umoci',
  'ctr',
  'ctr-remote',
  'containerd',
  'containerd-shim-runc-v2',
  'mount',
  'umount',
];

/**
 * Leaves nothing of any image in the kernel's caches, while the programs of the host are there, and the files of the
 * server, which stands for another machine: neither side is to wait for that one's disk. `programs`: more of the host's.
 */
export async function coldHost(serverFiles: string, programs: readonly string[] = []): Promise<void> {
  await run('sync', []);
  await dropCaches(3);
  const script = `find "$1" -type f -printf '%i %p\\0' | sort -zunk1,1 | cut -zd' ' -f2- | xargs -0 cat > /dev/null
cat "$2" "$3"/*.js > /dev/null
shift 3
for program; do cat "$(command -v "$program")" > /dev/null; done`;
  const bundles = packageFile('dist/bin');
  await run('sh', [
    '-c',
    script,
    'sh',
    serverFiles,
    process.execPath,
    bundles,
    ...HOST_PROGRAMS,
    ...programs,
  ]);
}

/** Empties the kernel's page cache (1), dentries and inodes (2), or both (3), of the whole machine. */
export async function dropCaches(which: 1 | 2 | 3): Promise<void> {
  await writeFile('/proc/sys/vm/drop_caches', String(which));
}
