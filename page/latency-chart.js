/** How long readers waited for absent blocks: a bar for each bound, stacked by kind of source. */
// @ts-check
import { kindClass, picture, svg } from './elements.js';
import { formatCount } from './units.js';

/** @typedef {import('../src/daemon/page-view.js').MountView} MountView */

const WIDTH = 460;
const HEIGHT = 220;
const TOP = 20;
const BOTTOM = 30;

/** @param {MountView} view */
export function latencyChart({ sources, latencyBounds }) {
  const names = [...latencyBounds.map(boundName), 'more'];
  const totals = names.map((_, index) => sources.reduce((sum, { waits }) => sum + (waits[index] ?? 0), 0));
  const most = Math.max(...totals, 1);
  const width = WIDTH / names.length;
  const unit = (HEIGHT - TOP - BOTTOM) / most;
  return picture(
    WIDTH,
    HEIGHT,
    `${totals.reduce((sum, count) => sum + count, 0)} waits`,
    svg('line', { class: 'base', x1: 0, x2: WIDTH, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }),
    ...names.flatMap((name, index) => {
      const parts = [];
      let top = HEIGHT - BOTTOM;
      for (const { kind, waits } of sources) {
        const height = (waits[index] ?? 0) * unit;
        top -= height;
        if (height > 0)
          parts.push(
            svg('rect', {
              class: `bar ${kindClass(kind)}`,
              x: index * width + 3,
              y: top,
              width: width - 6,
              height,
            }),
          );
      }
      const middle = { x: (index + 0.5) * width, 'text-anchor': 'middle', class: 'tick-label' };
      const total = totals[index] ?? 0;
      if (total > 0) parts.push(svg('text', { ...middle, y: top - 5 }, formatCount(total)));
      return [...parts, svg('text', { ...middle, y: HEIGHT - 12 }, name)];
    }),
  );
}

/** @param {number} milliseconds */
function boundName(milliseconds) {
  return milliseconds < 1000 ? String(milliseconds) : `${milliseconds / 1000} s`;
}
