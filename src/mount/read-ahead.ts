/**
 * The kernel's read-ahead for one mount: /sys/class/bdi/MAJOR:MINOR/read_ahead_kb, 128 unless somebody raises it.
 *
 * With 1024 a sequential reader of cached blocks gets 4.5 GB/s instead of 1.1 GB/s (DESIGN §3.3).
 */
import { readFile, stat, writeFile } from 'node:fs/promises';

/** Raises the read-ahead of the mount at `place`; returns what it is now, in KiB, or undefined when unknown. */
export async function raiseReadAhead(place: string, kib: number): Promise<number | undefined> {
  const path = `/sys/class/bdi/${deviceNumber((await stat(place, { bigint: true })).dev)}/read_ahead_kb`;
  try {
    await writeFile(path, `${kib}\n`);
  } catch {
    // Only root of the host may; the mount works without it.
  }
  const now = await readFile(path, 'utf8').catch(() => undefined);
  return now === undefined ? undefined : Number(now);
}

/** `major:minor` of a st_dev as makedev(3) packs it. */
export function deviceNumber(dev: bigint): string {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xfffff000n);
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}
