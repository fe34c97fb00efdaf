/** One mount: figures, pictures, sources and files. */
// @ts-check
import { extentsChart, filesChart, timesOf } from './activity-chart.js';
import { card, chip, html, kindClass } from './elements.js';
import { latencyChart } from './latency-chart.js';
import { layerStrips } from './layer-strips.js';
import { formatBytes, formatCount, formatPercent, formatTime } from './units.js';

/** @typedef {import('../src/daemon/page-view.js').MountView} MountView */
/** @typedef {import('./activity-chart.js').Span} Span */

/**
 * @param {MountView} view
 * @param {Span} span
 * @returns {Node[]}
 */
export function mountDetail(view, span) {
  const times = timesOf(view, span);
  return [
    html('h2', {}, view.image),
    html(
      'p',
      { class: 'subtitle' },
      html('code', {}, view.mountpoint),
      ' · ',
      view.problem ?? (view.served || 'no source is open yet'),
    ),
    figures(view),
    card(
      'Files read over time',
      'Files of which something was read for the first time; what the kernel has in its own cache is not asked for.',
      spans(span),
      filesChart(view, times),
    ),
    card(
      'Extents fetched against extents read',
      'Top to bottom: the layers, byte by byte. Left to right: the time since the mount began.',
      legend(view),
      extentsChart(view, times),
    ),
    card('Layers', 'Pale: in the cache. Dark: read by this mount.', layerStrips(view.perLayer)),
    html(
      'div',
      { class: 'pair' },
      card(
        'Sources',
        'Where absent blocks come from, best first, and why others are not used.',
        sources(view),
      ),
      card(
        'Waits',
        'Milliseconds that readers waited for absent blocks: how many waits lay below each bound.',
        latencyChart(view),
      ),
    ),
    html(
      'div',
      { class: 'pair' },
      card('Files', `In the order of their first reads${listed(view)}.`, files(view)),
      card('Requests', 'What the kernel has asked for, and which errors it was told.', requests(view)),
    ),
  ];
}

/** @param {MountView} view */
function figures({ bytesRead, fetched, files, hitRatio, perLayer, reads, readsWaiting }) {
  const size = perLayer.reduce((sum, layer) => sum + layer.size, 0);
  const cached = perLayer.reduce(
    (sum, layer) => sum + Math.min(layer.blocksCached * layer.blockSize, layer.size),
    0,
  );
  const came = Object.values(fetched).reduce((sum, bytes) => sum + bytes, 0);
  const misses = reads.misses === 1 ? '1 read waited' : `${formatCount(reads.misses)} reads waited`;
  /** @type {[string, string, string][]} */
  const shown = [
    [
      'Image',
      formatBytes(size),
      `${perLayer.length} layers, ${formatPercent(size === 0 ? 0 : cached / size)} cached`,
    ],
    ['Fetched', formatBytes(came), Object.keys(fetched).join(', ') || 'from nowhere yet'],
    ['Read by programs', formatBytes(bytesRead), `${formatCount(files.total)} files`],
    ['Answered at once', formatPercent(hitRatio), misses],
    ['Waiting now', formatCount(readsWaiting), readsWaiting === 1 ? 'read' : 'reads'],
  ];
  return html(
    'dl',
    { class: 'figures' },
    ...shown.map(([name, value, note]) =>
      html('div', {}, html('dt', {}, name), html('dd', {}, value), html('dd', { class: 'note' }, note)),
    ),
  );
}

/** @param {Span} chosen */
function spans(chosen) {
  /** @type {[Span, string][]} */
  const choices = [
    ['all', 'All'],
    ['start', 'First 10 s'],
    ['minute', 'Last minute'],
  ];
  return html(
    'p',
    { class: 'spans' },
    ...choices.map(([span, name]) =>
      html('button', { type: 'button', 'data-span': span, 'aria-pressed': String(span === chosen) }, name),
    ),
  );
}

/** @param {MountView} view */
function legend({ sources, activity }) {
  const kinds = [...new Set(sources.map(({ kind }) => kind))];
  return html(
    'p',
    { class: 'legend' },
    ...kinds.flatMap((kind) => [
      html('span', { class: `swatch ${kindClass(kind)}` }),
      `fetched from ${kind}`,
      html('span', { class: `swatch ahead ${kindClass(kind)}` }),
      'before anybody asked',
    ]),
    html('span', { class: 'swatch read' }),
    'read',
    activity.truncated ? html('em', {}, 'Not all of it is drawn.') : undefined,
  );
}

/** @param {MountView} view */
function sources({ sources: used, passedOver }) {
  const rows = used.map(({ kind, location, bytes, healthy, problem, waitMedian, wait99 }) => {
    const waits = waitMedian === undefined ? '' : `half < ${formatTime(waitMedian)}`;
    const most = wait99 === undefined ? '' : `, 99 % < ${formatTime(wait99)}`;
    const state = healthy ? 'well' : 'failing';
    return html(
      'tr',
      {},
      html('td', {}, chip(kind, kind)),
      html('td', { class: 'path' }, location, note(problem)),
      html('td', {}, formatBytes(bytes)),
      html('td', { class: healthy ? '' : 'problem' }, state, note(waits + most)),
    );
  });
  const unused = passedOver.map(({ kind, reason }) =>
    html(
      'tr',
      { class: 'unused' },
      html('td', {}, chip(kind, kind)),
      html('td', { colspan: 3 }, `not used: ${reason}`),
    ),
  );
  return html('table', { class: 'sources' }, html('tbody', {}, ...rows, ...unused));
}

/** @param {string | undefined} text */
function note(text) {
  return text === undefined || text === '' ? undefined : html('div', { class: 'note' }, text);
}

/** @param {MountView} view */
function listed({ files: { first, total } }) {
  return first.length < total ? `, the first ${formatCount(first.length)} of ${formatCount(total)}` : '';
}

/** @param {MountView} view */
function files({ files: { first } }) {
  return html(
    'div',
    { class: 'scroll', id: 'files' },
    html(
      'table',
      { class: 'files' },
      html(
        'tbody',
        {},
        ...first.map(({ time, path, size }) =>
          html(
            'tr',
            {},
            html('td', {}, formatTime(time)),
            html('td', { class: 'path' }, path),
            html('td', {}, formatBytes(size)),
          ),
        ),
      ),
    ),
  );
}

/** @param {MountView} view */
function requests({ requests: asked, errors }) {
  const rows = Object.entries(asked).sort((a, b) => b[1] - a[1]);
  const failed = Object.entries(errors).map(
    ([name, count]) => /** @type {const} */ ([`answered ${name}`, count]),
  );
  return html(
    'table',
    { class: 'requests' },
    html(
      'tbody',
      {},
      ...[...rows, ...failed].map(([name, count]) =>
        html('tr', {}, html('td', {}, name), html('td', {}, formatCount(count))),
      ),
    ),
  );
}
