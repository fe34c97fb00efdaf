/** A bar chart as SVG that can stand in an HTML page: no script, no external resource, colours of the page. */
import { numberText } from '../results.js';
import type { Chart } from '../workload.js';

const WIDTH = 760;
const LABEL = 300;
const VALUE = 90;
const ROW = 26;
const BAR = 16;
/** Largest ÷ smallest value from which on the bars are on a logarithmic scale. */
const LOGARITHMIC = 50;

export function barChart({ title, unit, rows }: Chart): string {
  const values = rows.map(({ value }) => value).filter((value) => value > 0);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const logarithmic = values.length > 0 && most / least > LOGARITHMIC;
  const room = WIDTH - LABEL - VALUE;
  const floor = Math.log(least / 2);
  const length = (value: number) => {
    if (!(value > 0)) return 0;
    return (logarithmic ? (Math.log(value) - floor) / (Math.log(most) - floor) : value / most) * room;
  };
  const lines = rows.map(({ label, value, orca }, index) => {
    const middle = index * ROW + ROW / 2;
    return `<text x="${LABEL - 8}" y="${middle}" text-anchor="end" dominant-baseline="central">${escaped(label)}</text>
<rect class="${orca ? 'orca' : 'other'}" x="${LABEL}" y="${middle - BAR / 2}" width="${length(value).toFixed(1)}" height="${BAR}" rx="2"/>
<text x="${(LABEL + length(value) + 6).toFixed(1)}" y="${middle}" dominant-baseline="central">${numberText(value)}</text>`;
  });
  const scale = logarithmic ? `${unit}, logarithmic` : unit;
  return `<figure>
<figcaption>${escaped(title)} <small>(${escaped(scale)})</small></figcaption>
<svg viewBox="0 0 ${WIDTH} ${rows.length * ROW}" role="img" aria-label="${escaped(title)}">
${lines.join('\n')}
</svg>
</figure>`;
}

/** Text for HTML and SVG, also inside quotes. */
export function escaped(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return text.replace(/[&<>"]/g, (character) => entities[character]!);
}
