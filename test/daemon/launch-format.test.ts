import test from 'ava';
import fc from 'fast-check';
import { DaemonError } from '../../src/daemon/daemon-error.js';
import { formatLaunchAnswer, parseLaunchEnd, parseLaunchRequest } from '../../src/daemon/launch-format.js';

const LOCK = '0123456789abcdef'.repeat(2);
const fields = (...texts: (string | number)[]) => Buffer.from(texts.map((text) => `${text}\0`).join(''));
const request = (words: string[], environment: string[], lock = LOCK) =>
  fields(
    ...['0.1.0', 'mnt:[1] 2:3', '/home', lock, 1024, '101', 33, 77],
    ...[words.length, ...words, environment.length, ...environment],
  );
const word = fc.string({ unit: 'grapheme' }).map((text) => text.replaceAll('\0', ''));

test('a request is read back', (t) => {
  t.deepEqual(parseLaunchRequest(request(['run', '', 'a'], ['A=1', 'B=', 'A=2', 'none', 'C=x=y'])), {
    version: '0.1.0',
    fileTree: 'mnt:[1] 2:3',
    directory: '/home',
    lock: LOCK,
    openFiles: 1024,
    terminals: [true, false, true],
    consoleSize: { height: 33, width: 77 },
    words: ['run', '', 'a'],
    environment: { A: '1', B: '', C: 'x=y' },
  });
  t.is(parseLaunchEnd(fields(137)), 137);
});

test('any words and variables come through', (t) => {
  fc.assert(
    fc.property(fc.array(word), fc.array(word), (words, values) => {
      const environment = values.map((value, i) => `V${i}=${value}`);
      const read = parseLaunchRequest(request(words, environment));
      t.deepEqual(read.words, words);
      t.deepEqual(Object.values(read.environment), values);
    }),
  );
  t.pass();
});

test('what is malformed is refused', (t) => {
  const whole = request(['run', 'image'], ['A=1']);
  const malformed = [
    Buffer.alloc(0),
    whole.subarray(0, -1),
    Buffer.concat([whole, fields('more')]),
    request([], [], '../0123456789abcdef0123456789abc'),
    fields('0.1.0', 'tree', 'relative', LOCK, 1, '000', 0, 0, 0, 0),
    fields('0.1.0', 'tree', '/', LOCK, -1, '000', 0, 0, 0, 0),
    fields('0.1.0', 'tree', '/', LOCK, 1, '00', 0, 0, 0, 0),
    fields('0.1.0', 'tree', '/', LOCK, 1, '000', 0, 0, 1e9, 0),
  ];
  for (const body of malformed) t.throws(() => parseLaunchRequest(body), { instanceOf: DaemonError });
  for (const body of [fields(256), fields('x'), fields(1, 2), Buffer.from('1')])
    t.throws(() => parseLaunchEnd(body), { instanceOf: DaemonError });
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      try {
        parseLaunchRequest(Buffer.from(bytes));
      } catch (error) {
        t.true(error instanceof DaemonError);
      }
    }),
  );
});

test('answers are fields that end with a NUL each, and with a dot', (t) => {
  const texts = (answer: Parameters<typeof formatLaunchAnswer>[0]) => formatLaunchAnswer(answer).toString();
  t.is(texts({ kind: 'decline' }), 'decline\0.\0');
  t.is(texts({ kind: 'fail', exitCode: 127, text: 'orca: no\n' }), 'fail\x00127\0orca: no\n\0.\0');
  t.is(texts({ kind: 'end', exitCode: 3, text: 'a\0b' }), 'end\x003\0ab\0.\0');
  const command = ['/usr/sbin/runc', 'run'];
  t.is(
    texts({ kind: 'run', text: '', id: 'c0', directory: '/d', stdin: true, terminal: false, command }),
    'run\0\0c0\0/d\x001\x000\x002\0/usr/sbin/runc\0run\0.\0',
  );
});
