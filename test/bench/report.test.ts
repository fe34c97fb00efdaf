import test from 'ava';
import { barChart } from '../../bench/report/bar-chart.js';
import { htmlReport } from '../../bench/report/html.js';
import { result } from './result.js';

const machine = {
  cpu: 'a <processor> & "more"',
  cores: 2,
  memoryGiB: 1,
  kernel: '6',
  node: '20',
  fileSystem: 'ext4',
  load: 0,
  date: '2024-01-01T00:00:00.000Z',
};

const widths = (svg: string) => [...svg.matchAll(/width="([\d.]+)"/g)].map(([, width]) => Number(width));

test('bars are as long as their values', (t) => {
  const rows = [
    { label: 'a', value: 2 },
    { label: 'b', value: 4, orca: true },
    { label: 'c', value: 0 },
  ];
  const svg = barChart({ title: 'bars', unit: 's', rows });
  const [a, b, c] = widths(svg);
  t.is(a! * 2, b!);
  t.is(c, 0);
  t.is(svg.match(/class="orca"/g)?.length, 1);
});

test('values that are far apart are on a logarithmic scale, which is said', (t) => {
  const rows = [1, 10, 100].map((value) => ({ label: String(value), value }));
  const svg = barChart({ title: 'bars', unit: 's', rows });
  const [a, b, c] = widths(svg);
  t.true(a! > 0);
  t.true(Math.abs(c! - b! - (b! - a!)) < 0.2, 'equal factors, equal distances');
  t.regex(svg, /s, logarithmic/);
});

test('the page tells figures, aims that are missed, charts and notes', (t) => {
  const page = htmlReport({
    machine,
    figures: {},
    workloads: {
      some: result({
        figures: { rate_vs_other: 2, time: 0.5 },
        described: {
          rate_vs_other: { meaning: 'a ÷ b', aim: '≥ 3' },
          time: { meaning: 'seconds', aim: '< 1' },
        },
        charts: [{ title: 'chart', unit: 's', rows: [{ label: 'row', value: 1 }] }],
        notes: ['1 < 2'],
      }),
    },
  });
  t.regex(page, /rate_vs_other<\/code><\/td><td class="number missed">2</);
  t.regex(page, /time<\/code><\/td><td class="number reached">0\.5</);
  t.regex(page, /<figcaption>chart/);
  t.regex(page, /<li>1 &lt; 2<\/li>/);
  t.regex(page, /a &lt;processor&gt; &amp; &quot;more&quot;/);
});

test('the page needs nothing but itself', (t) => {
  const page = htmlReport({ machine, figures: {}, workloads: { some: result() } });
  t.notRegex(page, /<script|<link|<img|@import|url\(|https?:/);
});
