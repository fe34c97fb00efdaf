/** The Range header of RFC 9110 §14.2, and the Content-Range of distribution-spec uploads. */

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

/** Each costs a part of the response; who wants more of a file asks again. */
const MAX_RANGES = 16;
const MAX_RANGE_HEADER = 1024;

/**
 * As `parseRange`, with several ranges: those that the resource has, in the order asked for. `'unsatisfiable'` also
 * of more than MAX_RANGES, and of ranges that overlap, which only ever served to ask for more than there is
 * (RFC 9110 §14.2).
 */
export function parseRanges(
  header: string | undefined,
  size: number,
): readonly ByteRange[] | 'unsatisfiable' | undefined {
  if (header === undefined || !/^bytes=/i.test(header)) return undefined;
  const specs = header.slice('bytes='.length).split(',', MAX_RANGES + 1);
  if (header.length > MAX_RANGE_HEADER || specs.length > MAX_RANGES) return 'unsatisfiable';
  const ranges: ByteRange[] = [];
  for (const spec of specs) {
    // Empty elements of a list are ignored (RFC 9110 §5.6.1).
    if (spec.trim() === '') continue;
    if (!/^\s*(?:\d{1,15}\s*-\s*\d{0,15}|-\s*\d{1,15})\s*$/.test(spec)) return 'unsatisfiable';
    const range = parseRange(`bytes=${spec}`, size);
    if (range !== undefined && range !== 'unsatisfiable') ranges.push(range);
  }
  const ascending = ranges.toSorted((one, other) => one.start - other.start);
  const overlap = ascending.some((range, i) => range.start < (ascending[i - 1]?.end ?? 0));
  return ranges.length === 0 || overlap ? 'unsatisfiable' : ranges;
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
