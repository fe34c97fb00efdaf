/** The Range header of RFC 9110 §14.2 with one range, and the Content-Range of distribution-spec uploads. */

export interface ByteRange {
  start: number;
  /** Exclusive. */
  end: number;
}

/**
 * What a Range header asks of a resource of `size` bytes: undefined for all of it (no header, another unit, several
 * ranges: a server may answer with the whole), `'unsatisfiable'` for status 416.
 */
export function parseRange(
  header: string | undefined,
  size: number,
): ByteRange | 'unsatisfiable' | undefined {
  if (header === undefined || !/^bytes=/i.test(header) || header.includes(',')) return undefined;
  const [, first, last] = /^bytes=\s*(\d{0,15})\s*-\s*(\d{0,15})\s*$/i.exec(header) ?? [];
  if (first === undefined || last === undefined || (first === '' && last === '')) return 'unsatisfiable';
  if (first === '') {
    const start = Math.max(0, size - Number(last));
    return start < size ? { start, end: size } : 'unsatisfiable';
  }
  const start = Number(first);
  const end = last === '' ? size : Math.min(Number(last) + 1, size);
  return start < end ? { start, end } : 'unsatisfiable';
}

/**
 * The range of an uploaded chunk, `<start>-<end>` with the end inclusive (distribution-spec, "Pushing a blob in
 * chunks"); some clients write `bytes <start>-<end>/*`. Undefined when malformed.
 */
export function parseContentRange(header: string): ByteRange | undefined {
  const [, first, last] =
    /^(?:bytes[ =])?(\d{1,15})-(\d{1,15})(?:\/(?:\d{1,15}|\*))?$/.exec(header.trim()) ?? [];
  if (first === undefined || last === undefined) return undefined;
  const range = { start: Number(first), end: Number(last) + 1 };
  return range.start < range.end ? range : undefined;
}
