/** Seeded random numbers for tests; the seed comes from ORCA_TEST_SEED or is drawn, and belongs in the test's log. */
export function random(seed = Number(process.env['ORCA_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 32))) {
  let state = seed >>> 0;
  // mulberry32
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return (z ^ (z >>> 14)) >>> 0;
  };
  const below = (limit: number) => Math.floor((next() / 2 ** 32) * limit);
  const bytes = (length: number) => Buffer.from(Uint8Array.from({ length }, () => next() & 0xff));
  return { seed, below, bytes };
}
