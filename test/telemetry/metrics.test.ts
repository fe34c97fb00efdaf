import test from 'ava';
import { Histogram, LATENCY_BOUNDS } from '../../src/telemetry/histogram.js';
import { Metrics } from '../../src/telemetry/metrics.js';

test('samples of one family stand together under its help, and label values are escaped', (t) => {
  const metrics = new Metrics();
  metrics.counter('a_total', 'Things.', 1, { image: 'x"\\\n' });
  metrics.gauge('b', 'Others.', 0.5);
  metrics.counter('a_total', 'Things.', 2, { image: 'y' });
  const expected = [
    '# HELP a_total Things.',
    '# TYPE a_total counter',
    'a_total{image="x\\"\\\\\\n"} 1',
    'a_total{image="y"} 2',
    '# HELP b Others.',
    '# TYPE b gauge',
    'b 0.5',
  ];
  t.is(metrics.toString(), `${expected.join('\n')}\n`);
});

test('a histogram is written in seconds, cumulative, with all that exceeds its bounds', (t) => {
  const histogram = new Histogram();
  for (const milliseconds of [0.5, 1, 3, 400, 90_000]) histogram.add(milliseconds);
  const metrics = new Metrics();
  metrics.histogram('wait_seconds', 'Waits.', histogram, { source: 'smb' });
  const lines = metrics.toString().split('\n');
  t.true(lines.includes('wait_seconds_bucket{source="smb",le="0.001"} 2'));
  t.true(lines.includes('wait_seconds_bucket{source="smb",le="0.5"} 4'));
  t.true(lines.includes('wait_seconds_bucket{source="smb",le="60"} 4'));
  t.true(lines.includes('wait_seconds_bucket{source="smb",le="+Inf"} 5'));
  t.true(lines.includes('wait_seconds_sum{source="smb"} 90.4045'));
  t.is(lines.filter((line) => line.includes('_bucket')).length, LATENCY_BOUNDS.length + 1);
  t.is(histogram.quantile(0.5), 5);
  t.is(histogram.quantile(0.99), undefined);
  t.is(new Histogram().quantile(0.5), undefined);
});
