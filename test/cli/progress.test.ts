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

test('on a terminal the bars are redrawn in place, within its width', (t) => {
  const { stream, text } = capture(true);
  const progress = new Progress(stream);
  progress.update('a', item(0));
  progress.update('b', item(1_000_000));
  progress.end();
  const frames = text().split('\u001b[1A');
  t.is(frames.length, 2);
  t.regex(frames[1] ?? '', /\[#{12}-{12}\]/);
  for (const line of text().split('\n')) {
    t.true(line.replace(/\u001b\[\d*[A-Z]/g, '').length < 60);
  }
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
