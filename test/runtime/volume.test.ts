import { join } from 'node:path';
import test from 'ava';
import { parseVolume } from '../../src/runtime/volume.js';

test('source and destination are made absolute and normal', (t) => {
  t.deepEqual(parseVolume('/srv/../data:/var//lib/x/'), {
    source: '/data',
    destination: '/var/lib/x',
    readOnly: false,
  });
  t.deepEqual(parseVolume('./here:/there:ro'), {
    source: join(process.cwd(), 'here'),
    destination: '/there',
    readOnly: true,
  });
  t.false(parseVolume('/a:/b:rw').readOnly);
});

for (const [text, why] of [
  ['/a', /write SRC:DST/],
  ['', /write SRC:DST/],
  ['/a:/b:ro:z', /write SRC:DST/],
  ['/a:/b:Z', /unknown option "Z"/],
  ['data:/b', /no named volumes; write .\/data/],
  [':/b', /no named volumes/],
  ['/a:b', /must be absolute/],
  ['/a:/', /must not be \//],
  ['/a:/../..', /must not be \//],
] as const) {
  test(`-v ${JSON.stringify(text)} is refused`, (t) => {
    t.throws(() => parseVolume(text), { code: 'INVALID_OPTION', message: why });
  });
}
