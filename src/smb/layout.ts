/**
 * Declares the fixed part of a wire structure once; encode, decode, offsets and size all follow from it.
 *
 * Fields lie one after the other in the order of declaration, little-endian, without padding: what the
 * specification pads is declared as `reserved`. Decoding a buffer that is too short, or that holds another value
 * where a constant is due, throws a protocol error and nothing else.
 */
import { protocolError } from './error.js';

export interface Field<T> {
  readonly width: number;
  read(buffer: Buffer, at: number): T;
  write(buffer: Buffer, at: number, value: T): void;
}

/** A field whose value the specification fixes: absent from the values, written always, checked on decoding. */
export interface FixedField extends Field<never> {
  readonly fixed: true;
}

export const u8: Field<number> = {
  width: 1,
  read: (b, at) => b[at]!,
  write: (b, at, v) => b.writeUInt8(v, at),
};
export const u16: Field<number> = {
  width: 2,
  read: (b, at) => b.readUInt16LE(at),
  write: (b, at, v) => b.writeUInt16LE(v, at),
};
export const u32: Field<number> = {
  width: 4,
  read: (b, at) => b.readUInt32LE(at),
  write: (b, at, v) => b.writeUInt32LE(v, at),
};
export const u64: Field<bigint> = {
  width: 8,
  read: (b, at) => b.readBigUInt64LE(at),
  write: (b, at, v) => b.writeBigUInt64LE(v, at),
};

/** A 64-bit offset or length as a number; a value beyond 2^53 - 1 is a protocol error. */
export const length64: Field<number> = {
  width: 8,
  read: (b, at) => {
    const high = b.readUInt32LE(at + 4);
    if (high > 0x1fffff) throw protocolError('a length of more than 2^53 bytes');
    return high * 0x100000000 + b.readUInt32LE(at);
  },
  write: (b, at, v) => b.writeBigUInt64LE(BigInt(v), at),
};

/** `width` raw bytes; decoding gives a view, not a copy. */
export function bytes(width: number): Field<Buffer> {
  return {
    width,
    read: (b, at) => b.subarray(at, at + width),
    write: (b, at, v) => {
      if (v.length !== width) throw new RangeError(`${v.length} bytes for a field of ${width}`);
      b.set(v, at);
    },
  };
}

export function constant<T extends number | bigint>(field: Field<T>, value: T, name: string): FixedField {
  return {
    fixed: true,
    width: field.width,
    read: (b, at) => {
      const found = field.read(b, at);
      if (found !== value) throw protocolError(`${name} is ${found} where ${value} is due`);
      return undefined as never;
    },
    write: (b, at) => field.write(b, at, value),
  };
}

/** Written as zeros, ignored on decoding. */
export function reserved(width: number): FixedField {
  return {
    fixed: true,
    width,
    read: () => undefined as never,
    write: (b, at) => {
      b.fill(0, at, at + width);
    },
  };
}

/** The StructureSize that opens every SMB2 body. */
export function structureSize(value: number): FixedField {
  return constant(u16, value, 'StructureSize');
}

type Fields = Record<string, Field<any>>;
type Values<F extends Fields> = {
  -readonly [K in keyof F as F[K] extends FixedField ? never : K]: F[K] extends Field<infer T> ? T : never;
};
/** The decoded values of a layout. */
export type ValuesOf<L> = L extends Layout<infer F> ? Values<F> : never;

export class Layout<F extends Fields> {
  readonly size: number;
  readonly offsets: { readonly [K in keyof F]: number };
  readonly #fields: readonly { name: string; at: number; field: Field<unknown>; fixed: boolean }[];

  constructor(
    readonly name: string,
    fields: F,
  ) {
    let at = 0;
    const offsets: Record<string, number> = {};
    this.#fields = Object.entries(fields).map(([key, field]) => {
      const placed = { name: key, at, field, fixed: 'fixed' in field };
      offsets[key] = at;
      at += field.width;
      return placed;
    });
    this.size = at;
    this.offsets = offsets as { [K in keyof F]: number };
  }

  /** Writes the structure at `at` of `into`, by default into a new buffer of its size. */
  encode(values: Values<F>, into: Buffer = Buffer.alloc(this.size), at = 0): Buffer {
    const given = values as Record<string, unknown>;
    for (const f of this.#fields) f.field.write(into, at + f.at, f.fixed ? undefined : given[f.name]);
    return into;
  }

  decode(buffer: Buffer, at = 0): Values<F> {
    if (at < 0 || at + this.size > buffer.length) {
      throw protocolError(
        `${this.name}: ${Math.max(0, buffer.length - at)} bytes where ${this.size} are due`,
      );
    }
    const values: Record<string, unknown> = {};
    for (const f of this.#fields) {
      const value = f.field.read(buffer, at + f.at);
      if (!f.fixed) values[f.name] = value;
    }
    return values as Values<F>;
  }
}

/** The view `buffer[offset, offset + length)`; a protocol error when it is not wholly inside. */
export function slice(buffer: Buffer, offset: number, length: number, what: string): Buffer {
  if (offset < 0 || length < 0 || offset + length > buffer.length) {
    throw protocolError(`${what} of ${length} bytes at ${offset} in a message of ${buffer.length}`);
  }
  return buffer.subarray(offset, offset + length);
}
