import { stat } from 'node:fs/promises';
import test from 'ava';
import { mountAt } from '../../src/mount/mount-table.js';
import { deviceNumber } from '../../src/mount/read-ahead.js';

test('a device number is taken apart as makedev(3) puts it together', (t) => {
  t.is(deviceNumber(0x34n), '0:52');
  t.is(deviceNumber(0xfe01n), '254:1');
  t.is(deviceNumber(0x12fff34n), '4095:4660');
  t.is(deviceNumber(0xabcde000_12300000n), '2882396160:74496');
});

test('it is the one that the mount table has', async (t) => {
  const { dev } = await stat('/proc', { bigint: true });
  t.is((await mountAt('/proc'))?.device, deviceNumber(dev));
});
