/** One self-contained page of the results: figures with their aims, charts, notes, facts of the machine. */
import { numberText, type Results, reaches, type WorkloadResult } from '../results.js';
import { barChart, escaped } from './bar-chart.js';

const style = `
:root { color-scheme: light dark; --text: #1c2430; --soft: #5b6675; --line: #d8dee6; --page: #fff; --orca: #0b6e99; --other: #b3bfcc; --good: #1a7f37; --bad: #b42318; }
@media (prefers-color-scheme: dark) { :root { --text: #e6ebf2; --soft: #9aa7b5; --line: #333d49; --page: #12171d; --orca: #4db5e0; --other: #566473; --good: #4ac26b; --bad: #ff7b72; } }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
small, dt, .soft { color: var(--soft); }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.reached { color: var(--good); } .missed { color: var(--bad); font-weight: 600; }
code { font-size: .9em; white-space: nowrap; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; } dd { margin: 0; }
figure { margin: 1.5rem 0; } figcaption { font-weight: 600; margin-bottom: .4rem; }
svg { width: 100%; height: auto; font: 13px system-ui, sans-serif; } svg text { fill: var(--text); }
svg .orca { fill: var(--orca); } svg .other { fill: var(--other); }`;

export function htmlReport({ machine, workloads }: Results): string {
  const facts = Object.entries(machine).map(
    ([name, value]) => `<dt>${escaped(name)}</dt><dd>${escaped(String(value))}</dd>`,
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Orca benchmark</title>
<style>${style}
</style>
</head>
<body>
<h1>Orca benchmark</h1>
<p>Ratios compare two sides of one run on one machine, measured in turn; times and rates depend on that machine.</p>
<dl>${facts.join('')}</dl>
<h2>Figures</h2>
<table>
<thead><tr><th>figure</th><th>value</th><th>aim</th><th>what</th></tr></thead>
<tbody>
${Object.values(workloads).map(figureRows).join('\n')}
</tbody>
</table>
${Object.entries(workloads).map(section).join('\n')}
</body>
</html>
`;
}

function figureRows({ figures, described }: WorkloadResult): string {
  const rows = Object.entries(figures).map(([name, value]) => {
    const { meaning, aim } = described[name] ?? { meaning: '' };
    const reached = reaches(value, aim);
    const verdict = reached === undefined ? '' : reached ? 'reached' : 'missed';
    return `<tr><td><code>${escaped(name)}</code></td><td class="number ${verdict}">${numberText(value)}</td><td>${escaped(aim ?? '')}${verdict === 'missed' ? ' <span class="missed">missed</span>' : ''}</td><td>${escaped(meaning)}</td></tr>`;
  });
  return rows.join('\n');
}

function section([name, { charts, notes, date, seconds, repetitions, load }]: [
  string,
  WorkloadResult,
]): string {
  const loads = load.map((value) => value.toFixed(1)).join(' before, ');
  return `<h2>${escaped(name)}</h2>
<p class="soft">${escaped(date)}, ${seconds} s, ${repetitions} repetitions, load ${loads} at the end</p>
${charts.map(barChart).join('\n')}
${notes.length === 0 ? '' : `<ul>${notes.map((note) => `<li>${escaped(note)}</li>`).join('')}</ul>`}`;
}
