/** Looks at the daemon every second, and draws all mounts and the one that is chosen (by the address after #). */
// @ts-check
import { mountDetail } from './mount-detail.js';
import { overview, Rates } from './overview.js';
import { formatBytes, formatTime } from './units.js';

/** @typedef {import('../src/daemon/page-view.js').MountsView} MountsView */
/** @typedef {import('../src/daemon/page-view.js').MountView} MountView */

const PAUSE_MS = 1000;

const rates = new Rates();
/** @type {import('./activity-chart.js').Span} */
let span = 'all';
/** What is drawn already, as text: a picture that has not changed is left alone. */
let drawn = '';

/** @param {string} id */
function place(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no #${id}`);
  return element;
}

/**
 * @param {string} url
 * @returns {Promise<any>} undefined when there is none
 */
async function read(url) {
  const response = await fetch(url, { cache: 'no-store' });
  if (response.status === 404) return undefined;
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return response.json();
}

async function look() {
  /** @type {MountsView} */
  const all = await read('/view/mounts.json');
  const { version, mounts, cache, now, startedAt } = all;
  rates.add(now, mounts);
  const wanted = decodeURIComponent(location.hash.slice(1));
  const selected = mounts.find(({ id }) => id === wanted)?.id ?? mounts[0]?.id;
  place('daemon').textContent =
    `version ${version} · running for ${formatTime(now - startedAt)} · ${mounts.length} ${mounts.length === 1 ? 'mount' : 'mounts'} · ` +
    `cache ${formatBytes(cache.used)} of ${formatBytes(cache.limit)}`;
  place('overview').replaceChildren(overview(mounts, rates, selected));
  if (selected === undefined) return place('detail').replaceChildren();
  /** @type {MountView | undefined} */
  const view = await read(`/view/mounts/${encodeURIComponent(selected)}.json`);
  if (view !== undefined) draw(view);
}

/** @param {MountView} view */
function draw(view) {
  const text = JSON.stringify({ ...view, now: span === 'minute' ? view.now : 0, span });
  if (text === drawn) return;
  drawn = text;
  const scrolled = document.getElementById('files')?.scrollTop ?? 0;
  place('detail').replaceChildren(...mountDetail(view, span));
  const files = document.getElementById('files');
  if (files !== null) files.scrollTop = scrolled;
}

async function lookAgain() {
  const state = place('state');
  try {
    await look();
    state.textContent = 'live';
    state.className = 'live';
  } catch {
    state.textContent = 'the daemon does not answer';
    state.className = 'gone';
  }
}

async function watch() {
  for (;;) {
    if (!document.hidden) await lookAgain();
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

addEventListener('hashchange', () => void lookAgain());
document.addEventListener('click', ({ target }) => {
  const chosen = target instanceof HTMLElement ? target.dataset['span'] : undefined;
  if (chosen !== 'all' && chosen !== 'start' && chosen !== 'minute') return;
  span = chosen;
  void lookAgain();
});
void watch();
