/** A startup profile for people: what it says, and when which part of the layers is read, as text. */
import type { StartupProfile } from '../cache/startup-profile.js';
import { formatBytes } from './progress.js';
import { formatTable } from './table.js';

/** Of the layer VHDs that every expansion makes. */
const BLOCK_BYTES = 128 << 10;
const PAGE_BYTES = 4096;
const WIDTH = 64;
const ROWS = 16;
const BAR = 40;

export function profileTable(profile: StartupProfile): string {
  const { layers, runs, entries, steps } = profile;
  const files = steps.filter(({ kind }) => kind === 'pages');
  const rows = [
    ...entries.map(({ layer, first, count, time, seen }) => ({
      time,
      cells: [`layer ${layer}`, `block ${first}`, formatBytes(count * BLOCK_BYTES), `${seen} of ${runs}`],
    })),
    ...files.map(({ path, first, count, time, seen }) => ({
      time,
      cells: [shown(path), `page ${first}`, formatBytes(count * PAGE_BYTES), `${seen} of ${runs}`],
    })),
  ].sort((a, b) => a.time - b.time);
  const head = layers.map((diffID, index) => [`layer ${index}`, diffID]);
  return (
    formatTable(head) +
    '\n' +
    formatTable([
      ['at', 'what', 'from', 'bytes', 'runs'],
      ...rows.map(({ time, cells }) => [`${time} ms`, ...cells]),
    ])
  );
}

/** Bytes by time, then the blocks of every layer, each cell with the tenth of the start in which it is first read. */
export function profileDrawing({ layers, entries, steps }: StartupProfile): string {
  const end = Math.max(1, ...entries.map(({ time }) => time + 1), ...steps.map(({ time }) => time + 1));
  const bins = Array.from({ length: ROWS }, () => ({ bytes: 0, names: 0 }));
  const binOf = (time: number) => bins[Math.min(ROWS - 1, Math.floor((time * ROWS) / end))]!;
  for (const { time, count } of entries) binOf(time).bytes += count * BLOCK_BYTES;
  for (const { time, kind } of steps) if (kind !== 'pages') binOf(time).names += 1;
  const most = Math.max(1, ...bins.map(({ bytes }) => bytes));
  const timeline = formatTable([
    ['from', 'bytes', 'names', ''],
    ...bins.map(({ bytes, names }, index) => [
      `${Math.round((index * end) / ROWS)} ms`,
      formatBytes(bytes),
      String(names),
      '█'.repeat(Math.ceil((bytes / most) * BAR)),
    ]),
  ]);
  const maps = layers.map((_, layer) => {
    const own = entries.filter((entry) => entry.layer === layer);
    const blocks = Math.max(1, ...own.map(({ first, count }) => first + count));
    const cells = Array.from({ length: WIDTH }, () => '·');
    // The earliest wins, and entries are in the order of time.
    for (const { first, count, time } of own.toReversed()) {
      const from = Math.floor((first * WIDTH) / blocks);
      const to = Math.ceil(((first + count) * WIDTH) / blocks);
      cells.fill(String(Math.min(9, Math.floor((time * 10) / end))), from, to);
    }
    return [
      `layer ${layer}`,
      own.length === 0 ? '' : `|${cells.join('')}|`,
      formatBytes(blocks * BLOCK_BYTES),
    ];
  });
  const used = maps.filter(([, cells]) => cells !== '');
  return `${timeline}\nwhen which part of a layer is read, in tenths of ${end} ms\n${formatTable(used)}`;
}

/** As JSON; paths that are no UTF-8 have replacement characters. */
export function profileJson(profile: StartupProfile): object {
  const { layers, runs, entries, steps } = profile;
  return {
    runs,
    layers,
    entries: entries.map(({ layer, first, count, time, seen }) => ({
      layer,
      block: first,
      count,
      time,
      seen,
    })),
    steps: steps.map(({ kind, path, first, count, time, seen }) => ({
      kind,
      path: shown(path),
      ...(kind === 'pages' && { first, count }),
      time,
      seen,
    })),
  };
}

function shown(path: string): string {
  return `/${Buffer.from(path, 'latin1').toString()}`;
}
