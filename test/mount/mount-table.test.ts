import test from 'ava';
import { mountAt, parseMountTable, readMountTable } from '../../src/mount/mount-table.js';

test('entries are read with and without optional fields, and escaped names are names again', (t) => {
  const text = [
    '22 27 0:20 / /sys rw,nosuid shared:2 master:1 - sysfs sysfs rw',
    '91 27 0:52 / /srv/with\\040space\\011and\\134slash ro,nodev - fuse.orca python:numpy ro,user_id=0',
    'not a line of the table',
    '',
  ].join('\n');
  t.deepEqual(parseMountTable(text), [
    { device: '0:20', mountPoint: '/sys', type: 'sysfs', source: 'sysfs', options: 'rw' },
    {
      device: '0:52',
      mountPoint: '/srv/with space\tand\\slash',
      type: 'fuse.orca',
      source: 'python:numpy',
      options: 'ro,user_id=0',
    },
  ]);
});

test('the table of this process has /proc, and nothing at a directory that is no mount point', async (t) => {
  t.is((await mountAt('/proc'))?.type, 'proc');
  t.is(await mountAt('/proc/self'), undefined);
  t.true((await readMountTable()).length > 1);
});
