import test from 'ava';
import { splitCompound } from '../../src/smb/header.js';
import { message } from './samples.js';

const body = Buffer.alloc(8, 4);

test('a compound comes apart into its messages', (t) => {
  const packet = Buffer.concat([message(5, body, 72), message(16, body, 72), message(6, body)]);
  const parts = splitCompound(packet);
  t.deepEqual(
    parts.map(({ header, bytes }) => [header.command, bytes.length]),
    [
      [5, 72],
      [16, 72],
      [6, 72],
    ],
  );
});

test('a chain that is not aligned, points at itself or leaves the packet is refused', (t) => {
  for (const next of [1, 8, 68, 56, 80, 0xfffffff8]) {
    const packet = Buffer.concat([message(5, body, next), message(6, body)]);
    t.throws(() => splitCompound(packet), { code: 'PROTOCOL' }, `${next}`);
  }
});

test('an endless chain is refused', (t) => {
  const packet = Buffer.concat([
    ...Array.from({ length: 100 }, () => message(5, body, 72)),
    message(6, body),
  ]);
  t.throws(() => splitCompound(packet), { code: 'PROTOCOL', message: /more than 64/ });
});
