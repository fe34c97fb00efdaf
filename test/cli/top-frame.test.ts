import test from 'ava';
import { formatFrame, type Look, rowsOf } from '../../src/cli/top-frame.js';
import type { MountDetails } from '../../src/daemon/api.js';
import { Histogram } from '../../src/telemetry/histogram.js';

function look(time: number, bytesRead: number, bytes: number, waits: readonly number[]): Look {
  const histogram = new Histogram();
  for (const wait of waits) histogram.add(wait);
  const source = { kind: 'smb', location: 'smb://a/b', bytes, healthy: true, waits: histogram };
  const mount = {
    ...{ id: 'one', image: 'app:\u001b[31m1', mountpoint: '/mnt', bytesRead, hitRatio: 0.5, readsWaiting: 3 },
    perLayer: [{ diffID: 'sha256:0', blocks: 9, blocksPresent: 1, sources: [source] }],
  };
  // As it comes from the daemon.
  return { time, mounts: [JSON.parse(JSON.stringify(mount)) as MountDetails] };
}

test('a frame shows what came between two looks, and how long reads waited meanwhile', (t) => {
  const rows = rowsOf(look(1000, 5000, 100, [900]), look(3000, 9000, 4100, [900, 3, 4, 5, 150]));
  t.like(rows[0], { readRate: 2000, fetchRate: { smb: 2000 }, readsWaiting: 3, waitMedian: 5, wait99: 200 });
  const text = formatFrame(rows);
  t.regex(text, /2\.00 kB\/s +smb 2\.00 kB\/s +50\.0 % +3 +< 5 ms +< 200 ms\n$/);
  t.false(text.includes('\u001b'), 'names of images do not reach the terminal as they are');
});

test('a mount that is new, or whose daemon is, counts from zero', (t) => {
  const [row] = rowsOf({ time: 0, mounts: [] }, look(1000, 10, 20, [1]));
  t.like(row, { readRate: 10, fetchRate: { smb: 20 }, waitMedian: 1 });
  const [again] = rowsOf(look(0, 500, 500, [1, 1, 1]), look(1000, 10, 20, [3]));
  t.like(again, { readRate: 10, fetchRate: { smb: 20 }, waitMedian: 5 });
});
