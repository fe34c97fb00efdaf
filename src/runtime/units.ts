/** Sizes and times as users write them. */

/** Bytes of `500M`, `20G`, …, in powers of 1024; undefined for what is none. */
export function parseSize(text: string): number | undefined {
  const match = /^([0-9]+)([KMGT]?)$/i.exec(text);
  const size = Number(match?.[1]) * 1024 ** ' KMGT'.indexOf(match?.[2]?.toUpperCase() || ' ');
  return Number.isSafeInteger(size) ? size : undefined;
}

/** Milliseconds of `500ms`, `90s`, `10m` or `2h`, where a number alone is seconds; undefined for what is none. */
export function parseDuration(text: string): number | undefined {
  const match = /^([0-9]+)(ms|s|m|h)?$/.exec(text);
  const units: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  const value = Number(match?.[1]) * (units[match?.[2] ?? 's'] ?? 1);
  return Number.isSafeInteger(value) ? value : undefined;
}
