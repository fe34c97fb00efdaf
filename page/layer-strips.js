/** Each layer as a strip from its first byte to its last: what of it is in the cache, and what was read. */
// @ts-check

import { shortDigest } from './activity-chart.js';
import { html, picture, svg } from './elements.js';
import { formatBytes } from './units.js';

/** @typedef {import('../src/daemon/page-view.js').LayerView} LayerView */

const WIDTH = 960;
const HEIGHT = 22;
/** Cells come in tenths. */
const FULL = 10;

/** @param {LayerView[]} layers */
export function layerStrips(layers) {
  return html(
    'table',
    { class: 'strips' },
    html(
      'thead',
      {},
      row('th', 'Layer', 'Size', 'Cached', 'Read', html('span', {}, 'From its first byte to its last')),
    ),
    html(
      'tbody',
      {},
      ...layers.map((layer) =>
        row(
          'td',
          html('code', { title: layer.diffID }, shortDigest(layer.diffID)),
          formatBytes(layer.size),
          formatBytes(Math.min(layer.blocksCached * layer.blockSize, layer.size)),
          formatBytes(Math.min(layer.blocksRead * layer.blockSize, layer.size)),
          strip(layer),
        ),
      ),
    ),
  );
}

/**
 * @param {'td' | 'th'} tag
 * @param {(Node | string)[]} cells
 */
function row(tag, ...cells) {
  return html('tr', {}, ...cells.map((cell) => html(tag, {}, cell)));
}

/** @param {LayerView} layer */
function strip({ diffID, cached, read }) {
  const width = WIDTH / Math.max(cached.length, 1);
  const bars = (/** @type {number[]} */ tenths, /** @type {string} */ look) =>
    svg('path', {
      class: look,
      d: tenths
        .map((tenth, cell) => {
          const height = (tenth / FULL) * HEIGHT;
          return tenth === 0
            ? ''
            : `M${(cell * width).toFixed(2)} ${HEIGHT}h${width.toFixed(2)}v${-height}h${(-width).toFixed(2)}Z`;
        })
        .join(''),
    });
  const image = picture(WIDTH, HEIGHT, `layer ${diffID}`, bars(cached, 'cached'), bars(read, 'read'));
  image.setAttribute('preserveAspectRatio', 'none');
  return image;
}
