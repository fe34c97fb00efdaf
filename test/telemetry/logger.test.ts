import { spawnSync } from 'node:child_process';
import test from 'ava';
import { formatText, oneLine } from '../../src/telemetry/logger.js';

test('a text record is one line with its fields', (t) => {
  t.is(formatText('info', 'mounted', { image: 'a', layers: 3 }), 'orca: mounted (image=a, layers=3)\n');
  t.is(formatText('warn', 'slow share', {}), 'orca: warning: slow share\n');
  t.is(formatText('error', 'two\nlines', { cause: new Error('x\ty') }), 'orca: two lines (cause=x y)\n');
});

test('control characters do not reach the terminal', (t) => {
  t.is(oneLine('a\u001b[31mb\u009bc\r\nd'), 'a [31mb c d');
});

test('JSON records go to stderr, filtered by level', (t) => {
  const logger = new URL('../../src/telemetry/logger.js', import.meta.url).href;
  const script = `
    import { configureLogging, log } from '${logger}';
    await configureLogging({ level: 'warn', format: 'json' });
    log.info('hidden');
    log.warn('seen', { layer: 1 });
  `;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  t.is(child.stdout, '');
  const records = child.stderr.trim().split('\n');
  t.is(records.length, 1);
  const record = JSON.parse(records[0] ?? '');
  t.is(record.msg, 'seen');
  t.is(record.layer, 1);
});
