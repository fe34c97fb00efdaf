/**
 * The filters of containerd's list requests: `kind==active,labels."a.b"!=c`.
 *
 * A filter is a list of selectors joined by commas, all of which must hold; of several filters one must. A selector
 * is a field path, alone (the field is there) or with `==`, `!=` or `~=` (a regular expression) and a value, bare or
 * quoted as strconv.Quote of Go does it. What is not there equals nothing, and is empty for the other two.
 */
import { SnapshotError } from './snapshot-error.js';

/** Looks up a field by its path, such as ['labels', 'a.b']; undefined when there is none. */
export type FieldReader = (path: readonly string[]) => string | undefined;
export type Filter = (fieldOf: FieldReader) => boolean;

/** Longest text of one filter, in UTF-16 units. */
const MAX_FILTER_LENGTH = 16 << 10;
const MAX_FILTERS = 256;
/** Regular expressions longer than this are refused, since they run here. */
const MAX_PATTERN_LENGTH = 256;

/** Throws SnapshotError INVALID_ARGUMENT. No filters match everything. */
export function parseFilters(texts: readonly string[]): Filter {
  if (texts.length > MAX_FILTERS)
    throw new SnapshotError('INVALID_ARGUMENT', `more than ${MAX_FILTERS} filters`);
  const filters = texts.map((text) => new FilterParser(text).parse());
  if (filters.length === 0) return () => true;
  return (fieldOf) => filters.some((filter) => filter(fieldOf));
}

class FilterParser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
    if (text.length > MAX_FILTER_LENGTH) throw this.#error('it is too long');
  }

  parse(): Filter {
    if (this.#text === '') return () => true;
    const selectors = [this.#selector()];
    while (this.#take(',')) selectors.push(this.#selector());
    if (this.#at < this.#text.length) throw this.#error(`unexpected ${JSON.stringify(this.#text[this.#at])}`);
    return (fieldOf) => selectors.every((selector) => selector(fieldOf));
  }

  #selector(): Filter {
    const path = [this.#component()];
    while (this.#take('.')) path.push(this.#component());
    for (const operator of ['==', '!=', '~='] as const) {
      if (this.#take(operator)) return comparison(path, operator, this.#value(operator === '~='));
    }
    return (fieldOf) => fieldOf(path) !== undefined;
  }

  #component(): string {
    return this.#quoted() ?? this.#match(/[A-Za-z0-9_]+/y) ?? this.#fail('a field name is missing');
  }

  #value(isPattern: boolean): Value {
    const text = this.#quoted() ?? (isPattern ? this.#regex() : undefined) ?? this.#match(/[^,"'|/\s]+/y);
    if (text === undefined) throw this.#error('a value is missing');
    if (!isPattern) return text;
    if (text.length > MAX_PATTERN_LENGTH) throw this.#error('its pattern is too long');
    try {
      return new RegExp(text);
    } catch {
      throw this.#error(`${JSON.stringify(text)} is no pattern`);
    }
  }

  /** A pattern between slashes or bars, so that quotes need no escape. */
  #regex(): string | undefined {
    return (this.#match(/\/[^/]*\//y) ?? this.#match(/\|[^|]*\|/y))?.slice(1, -1);
  }

  #quoted(): string | undefined {
    const text = this.#match(/"(?:[^"\\]|\\.)*"/y);
    return text?.slice(1, -1).replace(ESCAPE, (escape, hex: string | undefined, letter: string) => {
      if (hex === undefined) return ESCAPED[letter] ?? this.#fail(`${escape} is no escape`);
      const code = Number.parseInt(hex.slice(1), 16);
      return code <= 0x10ffff ? String.fromCodePoint(code) : this.#fail(`${escape} is no character`);
    });
  }

  #take(token: string): boolean {
    if (!this.#text.startsWith(token, this.#at)) return false;
    this.#at += token.length;
    return true;
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  #fail(why: string): never {
    throw this.#error(why);
  }

  #error(why: string): SnapshotError {
    return new SnapshotError(
      'INVALID_ARGUMENT',
      `filter ${JSON.stringify(this.#text.slice(0, 200))}: ${why}`,
    );
  }
}

/** A byte that is no character, `\x80` and up, is in no string that containerd can send. */
const ESCAPE = /\\(?:(x[0-7][0-9a-fA-F]|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})|(.))/g;
const ESCAPED: Readonly<Record<string, string>> = {
  ...{ a: '\x07', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' },
  ...{ '\\': '\\', '"': '"', "'": "'" },
};

type Value = string | RegExp;

function comparison(path: readonly string[], operator: '==' | '!=' | '~=', value: Value): Filter {
  if (value instanceof RegExp) return (fieldOf) => value.test(fieldOf(path) ?? '');
  if (operator === '==') return (fieldOf) => fieldOf(path) === value;
  return (fieldOf) => (fieldOf(path) ?? '') !== value;
}
