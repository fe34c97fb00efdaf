/** Facts of the machine, without which a figure says little. */
import { readFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { run } from '../test/system/command.js';

export interface Machine {
  cpu: string;
  cores: number;
  memoryGiB: number;
  kernel: string;
  node: string;
  /** Of the directory that benchmarks work in. */
  fileSystem: string;
  /** Processes that wanted to run in the minute before: much more than 0 means that others disturb. */
  load: number;
  /** ISO 8601. */
  date: string;
}

export async function machine(directory: string): Promise<Machine> {
  const fileSystem = await run('stat', ['--file-system', '--format=%T', directory]);
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    fileSystem: fileSystem.trim() === 'ext2/ext3' ? mountedType(directory) : fileSystem.trim(),
    load: loadavg()[0] ?? 0,
    date: new Date().toISOString(),
  };
}

/** stat(1) cannot tell ext2, 3 and 4 apart; the mount table can. */
function mountedType(directory: string): string {
  const mounts = readFileSync('/proc/mounts', 'utf8').trim().split('\n');
  const fields = mounts.map((line) => line.split(' '));
  const above = fields.filter(([, path = '']) =>
    `${directory}/`.startsWith(path === '/' ? path : `${path}/`),
  );
  return above.sort(([, a = ''], [, b = '']) => a.length - b.length).at(-1)?.[2] ?? 'unknown';
}
