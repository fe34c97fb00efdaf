/** The files of the page (page/ of the package), and the headers that hold a browser to them. */
import { readFile } from 'node:fs/promises';
import { packageFile } from '../installation.js';

const SCRIPT = 'text/javascript; charset=utf-8';

/** By path of the URL: name and type. Nothing else is ever read. */
const FILES: Readonly<Record<string, readonly [name: string, type: string]>> = {
  '/': ['index.html', 'text/html; charset=utf-8'],
  '/page/page.css': ['page.css', 'text/css; charset=utf-8'],
  '/page/main.js': ['main.js', SCRIPT],
  '/page/activity-chart.js': ['activity-chart.js', SCRIPT],
  '/page/elements.js': ['elements.js', SCRIPT],
  '/page/latency-chart.js': ['latency-chart.js', SCRIPT],
  '/page/layer-strips.js': ['layer-strips.js', SCRIPT],
  '/page/mount-detail.js': ['mount-detail.js', SCRIPT],
  '/page/overview.js': ['overview.js', SCRIPT],
  '/page/units.js': ['units.js', SCRIPT],
};

/** Scripts, styles and data from here alone, nothing inline; no other page may frame or embed it (CSP level 3). */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
};

const read = new Map<string, Promise<string>>();

/** Undefined for a path that is none of the page's. */
export async function pageFile(path: string): Promise<{ type: string; body: string } | undefined> {
  const file = Object.hasOwn(FILES, path) ? FILES[path] : undefined;
  if (file === undefined) return undefined;
  const [name, type] = file;
  const text = read.get(name) ?? readFile(packageFile(`page/${name}`), 'utf8');
  read.set(name, text);
  return { type, body: await text };
}
