import { Writable } from 'node:stream';
import test from 'ava';
import { formatBytes, Progress } from '../../src/cli/progress.js';

function capture(isTTY: boolean): { stream: NodeJS.WriteStream; text: () => string } {
  let text = '';
  const stream = new Writable({
    write(chunk, _encoding, done) {
      text += chunk;
      done();
    },
  });
  return {
    stream: Object.assign(stream, { isTTY, columns: 60 }) as unknown as NodeJS.WriteStream,
    text: () => text,
  };
}

const item = (done: number, finished = false) => ({ label: 'layer abc', done, total: 2_000_000, finished });

test('without a terminal there is one line per item, when it has finished', (t) => {
  const { stream, text } = capture(false);
  const progress = new Progress(stream);
  progress.update('a', item(0));
  progress.update('a', item(1_000_000));
  progress.update('b', { ...item(0, true), note: 'in the store already' });
  progress.update('a', item(2_000_000, true));
  progress.update('a', item(2_000_000, true));
  progress.end();
  t.regex(text(), /^layer abc: in the store already\nlayer abc: 2\.00 MB, .*\/s\n$/);
});

test('on a terminal bars are redrawn in place, within its width, and what has finished stays', (t) => {
  const { stream, text } = capture(true);
  const progress = new Progress(stream);
  progress.update('a', item(0));
  progress.update('b', { ...item(2_000_000, true), label: 'layer b' });
  progress.update('c', { ...item(2_000_000, true), label: 'layer c' });
  progress.end();
  const [first = '', second = '', third = '', last] = text().split('\u001b[1F\u001b[J');
  t.regex(first, /^layer abc \[-{24}\] [^\n]*\n$/);
  t.regex(second, /^layer b: [^\n]*\nlayer abc \[-{24}\] [^\n]*\n$/);
  t.regex(third, /^layer c: [^\n]*\nlayer abc \[/);
  t.is(last, '', 'no bar is left');
  for (const line of first.split('\n')) t.true(line.length < 60);
});

test('there are never more bars than the terminal has room for', (t) => {
  const { stream, text } = capture(true);
  Object.assign(stream, { rows: 5 });
  const progress = new Progress(stream);
  for (let i = 0; i < 50; i++) progress.update(`${i}`, item(0));
  progress.update('x', item(1, true));
  const frame = text().split('\u001b[J').at(-1) ?? '';
  t.is(frame.split('\n').filter((line) => line.includes('[-')).length, 4);
});

test('an item of no bytes is no division by zero', (t) => {
  const { stream, text } = capture(true);
  new Progress(stream).update('a', { label: 'x', done: 0, total: 0, finished: false });
  t.notRegex(text(), /NaN|Infinity/);
});

test('sizes have three digits and decimal units', (t) => {
  t.deepEqual([0, 999, 1000, 1234, 999_499, 999_500, 45_600_000_000].map(formatBytes), [
    '0 B',
    '999 B',
    '1.00 kB',
    '1.23 kB',
    '999 kB',
    '1.00 MB',
    '45.6 GB',
  ]);
});
