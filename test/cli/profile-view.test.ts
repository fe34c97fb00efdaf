import test from 'ava';
import { StartupProfile } from '../../src/cache/startup-profile.js';
import { profileDrawing, profileJson, profileTable } from '../../src/cli/profile-view.js';
import type { Access } from '../../src/native/access.js';

const layers = [`sha256:${'a'.repeat(64)}`, `sha256:${'b'.repeat(64)}`];
const access = (kind: Access['kind'], path: string, time: number, first = 0, count = 1): Access => ({
  ...{ kind, path, first, count, time },
});
const profile = StartupProfile.record(
  [
    { device: 1, block: 0, time: 0 },
    { device: 1, block: 31, time: 90 },
    { device: 1, block: 32, time: 90 },
  ],
  layers,
  [access('name', 'usr', 0), access('pages', 'usr/b\xc3\xa4r', 10, 2, 3), access('absent', 'etc/x\n', 99)],
);

test('the table has every range, in the order of time', (t) => {
  t.is(
    profileTable(profile),
    `layer 0  ${layers[0]}
layer 1  ${layers[1]}

at     what      from      bytes    runs
0 ms   layer 1   block 0   131 kB   1 of 1
10 ms  /usr/bär  page 2    12.3 kB  1 of 1
90 ms  layer 1   block 31  262 kB   1 of 1
`,
  );
});

test('the drawing says when how much is read, and which part of a layer when', (t) => {
  const lines = profileDrawing(profile).split('\n');
  t.is(lines.length, 1 + 16 + 2 + 1 + 1);
  t.is(lines[1], `0 ms   131 kB  1      ${'█'.repeat(20)}`);
  t.is(lines[15], `88 ms  262 kB  0      ${'█'.repeat(40)}`);
  t.is(lines[16], '94 ms  0 B     1');
  t.is(lines[18], 'when which part of a layer is read, in tenths of 100 ms');
  t.is(lines[19], `layer 1  |00${'·'.repeat(58)}9999|  4.33 MB`);
});

test('an empty profile can be shown, and JSON has what the table has not', (t) => {
  t.notThrows(() => profileDrawing(StartupProfile.record([], layers)));
  const { steps, entries } = profileJson(profile) as { steps: unknown[]; entries: unknown[] };
  t.deepEqual(steps.at(-1), { kind: 'absent', path: '/etc/x\n', time: 99, seen: 1 });
  t.deepEqual(entries[0], { layer: 1, block: 0, count: 1, time: 0, seen: 1 });
});
