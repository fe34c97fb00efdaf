/**
 * The time of day to the microsecond, which Date does not have: containerd compares the times of snapshots with
 * times of its own.
 */

/** Milliseconds by which this clock may differ from Date before it is set again. */
const TOLERANCE = 1;

/** Milliseconds that CLOCK_REALTIME is ahead of performance.now(); a step of the clock changes it. */
let offset = Number.NaN;

/** Nanoseconds since 1970, in steps of about a microsecond, never decreasing unless the clock of the host is set back. */
export function wallClock(): bigint {
  let now = performance.now() + offset;
  const date = Date.now();
  if (!(now >= date - TOLERANCE && now < date + 1 + TOLERANCE)) {
    offset = measureOffset();
    now = performance.now() + offset;
  }
  return BigInt(Math.round(now * 1000)) * 1000n;
}

/** Waits for Date to step, a millisecond at most: at that moment it is exact. */
function measureOffset(): number {
  const before = Date.now();
  for (;;) {
    const date = Date.now();
    if (date !== before) return date - performance.now();
  }
}
