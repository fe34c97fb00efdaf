/** All mounts, a line for each: what it is, what it reads now, and whether it waits. */
// @ts-check
import { chip, html, picture, svg } from './elements.js';
import { formatBytes, formatPercent } from './units.js';

/** @typedef {import('../src/daemon/page-view.js').MountSummary} MountSummary */

const SAMPLES = 60;
const WIDTH = 180;
const HEIGHT = 28;

/** Bytes per second of the last minute, by mount; counters that began anew begin anew here. */
export class Rates {
  /** @type {Map<string, { at: number, bytes: number, rates: number[] }>} */
  #known = new Map();

  /**
   * @param {number} now in milliseconds
   * @param {MountSummary[]} mounts
   */
  add(now, mounts) {
    const next = new Map();
    for (const { id, bytesRead } of mounts) {
      const { at, bytes, rates } = this.#known.get(id) ?? { at: now, bytes: bytesRead, rates: [] };
      const rate = now > at ? (Math.max(0, bytesRead - bytes) * 1000) / (now - at) : 0;
      next.set(id, { at: now, bytes: bytesRead, rates: [...rates, rate].slice(-SAMPLES) });
    }
    this.#known = next;
  }

  /** @param {string} id */
  of(id) {
    return this.#known.get(id)?.rates ?? [];
  }
}

/**
 * @param {MountSummary[]} mounts
 * @param {Rates} rates
 * @param {string | undefined} selected
 */
export function overview(mounts, rates, selected) {
  if (mounts.length === 0) return html('p', { class: 'empty' }, 'Nothing is mounted.');
  const heads = ['Image', 'Mounted at', 'Reads now', 'Read', 'Fetched from', 'At once', 'Waiting'];
  return html(
    'table',
    { class: 'mounts' },
    html('thead', {}, html('tr', {}, ...heads.map((head) => html('th', {}, head)))),
    html('tbody', {}, ...mounts.map((mount) => line(mount, rates.of(mount.id), mount.id === selected))),
  );
}

/**
 * @param {MountSummary} mount
 * @param {number[]} rates
 * @param {boolean} isSelected
 */
function line(mount, rates, isSelected) {
  const { id, image, mountpoint, bytesRead, fetched, hitRatio, readsWaiting, problem } = mount;
  return html(
    'tr',
    { class: isSelected ? 'selected' : '', 'data-mount': id },
    html('td', {}, html('a', { href: `#${encodeURIComponent(id)}` }, image)),
    html('td', { class: 'path' }, mountpoint),
    html('td', { class: 'rate' }, sparkline(rates), html('span', {}, `${formatBytes(rates.at(-1) ?? 0)}/s`)),
    html('td', {}, formatBytes(bytesRead)),
    problem === undefined
      ? html(
          'td',
          {},
          ...Object.entries(fetched).map(([kind, bytes]) => chip(kind, `${kind} ${formatBytes(bytes)}`)),
        )
      : html('td', { class: 'problem' }, problem),
    html('td', {}, formatPercent(hitRatio)),
    html('td', { class: readsWaiting > 0 ? 'waiting' : '' }, readsWaiting),
  );
}

/** @param {number[]} rates */
function sparkline(rates) {
  const most = Math.max(...rates, 1);
  const points = rates.map((rate, index) => {
    const x = WIDTH - (rates.length - 1 - index) * (WIDTH / (SAMPLES - 1));
    return `${x.toFixed(1)},${(HEIGHT - 1 - (rate / most) * (HEIGHT - 3)).toFixed(1)}`;
  });
  return picture(
    WIDTH,
    HEIGHT,
    'bytes per second in the last minute',
    svg('polyline', { class: 'line', points: points.join(' ') }),
  );
}
