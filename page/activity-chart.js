/** Two pictures over one axis of time: how many files have been read, and which extents were fetched and read when. */
// @ts-check
import { kindClass, picture, svg } from './elements.js';
import { formatCount, formatTime, ticks } from './units.js';

/** @typedef {import('../src/daemon/page-view.js').MountView} MountView */
/** @typedef {'all' | 'start' | 'minute'} Span */

const WIDTH = 960;
const LEFT = 84;
const RIGHT = 12;
const FILES_HEIGHT = 170;
const EXTENTS_HEIGHT = 340;
const TOP = 12;
const BOTTOM = 26;
/** Labels of layers that are lower would lie on each other. */
const LABEL_HEIGHT = 13;
const START_MS = 10_000;
const MINUTE_MS = 60_000;

/**
 * Which times are drawn, in milliseconds since the mount was begun to be served.
 * @param {MountView} view
 * @param {Span} span
 * @returns {[from: number, to: number]}
 */
export function timesOf({ activity, files, since, now }, span) {
  if (span === 'start') return [0, START_MS];
  if (span === 'minute') return [Math.max(0, now - since - MINUTE_MS), Math.max(MINUTE_MS, now - since)];
  const times = [
    ...activity.reads.map(([time]) => time),
    ...activity.fetches.map(([time]) => time),
    ...files.times,
  ].filter((time) => time >= 0);
  const last = times.reduce((latest, time) => Math.max(latest, time), 0);
  const first = times.reduce((earliest, time) => Math.min(earliest, time), last);
  // A mount that waited long for its first reader.
  const from = first > last / 4 ? first - (last - first) * 0.02 : 0;
  return [from, Math.max(last + (last - from) * 0.02, from + 100)];
}

/**
 * @param {MountView} view
 * @param {[number, number]} times
 */
export function filesChart({ files }, [from, to]) {
  const height = FILES_HEIGHT - TOP - BOTTOM;
  const most = Math.max(files.total, 1);
  const x = scale(from, to);
  const y = (/** @type {number} */ count) => TOP + height - (count / most) * height;
  let line = `M${x(from)} ${y(0)}`;
  for (const [index, time] of files.times.entries()) {
    const at = x(Math.min(Math.max(time, from), to)).toFixed(1);
    line += `H${at}V${y(Math.min(index * files.step + 1, files.total)).toFixed(1)}`;
    if (time > to) break;
  }
  const last = files.times.at(-1) ?? 0;
  if (last <= to) line += `V${y(files.total).toFixed(1)}H${x(to)}`;
  const counts = ticks(0, most).filter(Number.isInteger);
  return picture(
    WIDTH,
    FILES_HEIGHT,
    `${files.total} files read`,
    ...counts.map((count) =>
      svg(
        'g',
        { class: 'tick' },
        svg('line', { x1: LEFT, x2: WIDTH - RIGHT, y1: y(count), y2: y(count) }),
        svg('text', { x: LEFT - 8, y: y(count) + 4, 'text-anchor': 'end' }, formatCount(count)),
      ),
    ),
    ...timeAxis(x, from, to, FILES_HEIGHT),
    svg('path', { class: 'area', d: `${line}V${y(0)}Z` }),
    svg('path', { class: 'line', d: line }),
  );
}

/**
 * @param {MountView} view
 * @param {[number, number]} times
 */
export function extentsChart({ activity, perLayer }, [from, to]) {
  const height = EXTENTS_HEIGHT - TOP - BOTTOM;
  const most = Math.max(activity.blocks, 1);
  const x = scale(from, to);
  const y = (/** @type {number} */ block) => TOP + (block / most) * height;
  /** One path for each look, however many extents there are. @type {Map<string, string>} */
  const paths = new Map();
  const add = (/** @type {string} */ look, /** @type {string} */ part) =>
    void paths.set(look, (paths.get(look) ?? '') + part);
  for (const [time, first, count, kind, demanded] of activity.fetches)
    if (time >= from && time <= to)
      add(
        `fetched ${kindClass(kind)}${demanded ? '' : ' ahead'}`,
        box(x(time) - 5, y(first), 10, y(first + count), 5),
      );
  for (const [time, first, count] of activity.reads)
    if (time >= from && time <= to) add('read', box(x(time) - 1.5, y(first), 3, y(first + count), 5));
  const layers = [];
  let start = 0;
  for (const [index, { diffID, blocks }] of perLayer.entries()) {
    const [top, bottom] = [y(start), y(start + blocks)];
    layers.push(
      svg('rect', {
        class: index % 2 === 0 ? 'band' : 'band odd',
        ...{ x: LEFT, y: top, width: WIDTH - LEFT - RIGHT, height: Math.max(bottom - top, 0) },
      }),
    );
    if (bottom - top >= LABEL_HEIGHT)
      layers.push(
        svg(
          'text',
          { class: 'tick-label', x: LEFT - 8, y: (top + bottom) / 2 + 4, 'text-anchor': 'end' },
          shortDigest(diffID),
        ),
      );
    start += blocks;
  }
  return picture(
    WIDTH,
    EXTENTS_HEIGHT,
    `${activity.fetches.length} runs fetched, ${activity.reads.length} runs read`,
    ...layers,
    ...timeAxis(x, from, to, EXTENTS_HEIGHT),
    ...[...paths].map(([look, d]) => svg('path', { class: look, d })),
  );
}

/** @param {string} diffID */
export function shortDigest(diffID) {
  return diffID.replace(/^sha256:/, '').slice(0, 8);
}

/**
 * @param {number} x
 * @param {number} top
 * @param {number} width
 * @param {number} bottom
 * @param {number} least height
 */
function box(x, top, width, bottom, least) {
  const height = Math.max(bottom - top, least);
  return `M${x.toFixed(1)} ${top.toFixed(1)}h${width}v${height.toFixed(1)}h${-width}Z`;
}

/**
 * @param {number} from
 * @param {number} to
 * @returns {(time: number) => number}
 */
function scale(from, to) {
  return (time) => LEFT + ((time - from) / (to - from)) * (WIDTH - LEFT - RIGHT);
}

/**
 * @param {(time: number) => number} x
 * @param {number} from
 * @param {number} to
 * @param {number} height
 */
function timeAxis(x, from, to, height) {
  return ticks(from, to).map((time) =>
    svg(
      'g',
      { class: 'tick' },
      svg('line', { x1: x(time), x2: x(time), y1: TOP, y2: height - BOTTOM }),
      svg('text', { x: x(time), y: height - 8, 'text-anchor': 'middle' }, formatTime(time)),
    ),
  );
}
