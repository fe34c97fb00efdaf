/**
 * Fixed records of a binary format, declared once: each field knows its place, width and byte order, and both
 * encoding and decoding go through it.
 */

/** One field of a record; `at` is the offset of the record in the view. */
export interface Field<T> {
  /** Bytes from the start of the record. */
  readonly offset: number;
  /** Bytes. */
  readonly width: number;
  get(view: DataView, at: number): T;
  set(view: DataView, at: number, value: T): void;
}

/** The field constructors of one byte order. */
export interface FieldTypes {
  u8(offset: number): Field<number>;
  u16(offset: number): Field<number>;
  u32(offset: number): Field<number>;
  /** As a number; what is above 2⁵³ is inexact, and so beyond every cap it is checked against. */
  u64(offset: number): Field<number>;
  i64(offset: number): Field<bigint>;
  /** The bytes themselves; `get` gives a view, not a copy. A shorter value is padded with zeros. */
  bytes(offset: number, width: number): Field<Uint8Array>;
}

const TWO_TO_32 = 2 ** 32;

function fieldTypes(littleEndian: boolean): FieldTypes {
  const low = littleEndian ? 0 : 4;
  const high = littleEndian ? 4 : 0;
  return {
    u8: (offset) => ({
      offset,
      width: 1,
      get: (view, at) => view.getUint8(at + offset),
      set: (view, at, value) => view.setUint8(at + offset, value),
    }),
    u16: (offset) => ({
      offset,
      width: 2,
      get: (view, at) => view.getUint16(at + offset, littleEndian),
      set: (view, at, value) => view.setUint16(at + offset, value, littleEndian),
    }),
    u32: (offset) => ({
      offset,
      width: 4,
      get: (view, at) => view.getUint32(at + offset, littleEndian),
      set: (view, at, value) => view.setUint32(at + offset, value, littleEndian),
    }),
    u64: (offset) => ({
      offset,
      width: 8,
      get: (view, at) =>
        view.getUint32(at + offset + high, littleEndian) * TWO_TO_32 +
        view.getUint32(at + offset + low, littleEndian),
      set(view, at, value) {
        view.setUint32(at + offset + high, Math.floor(value / TWO_TO_32), littleEndian);
        view.setUint32(at + offset + low, value % TWO_TO_32, littleEndian);
      },
    }),
    i64: (offset) => ({
      offset,
      width: 8,
      get: (view, at) => view.getBigInt64(at + offset, littleEndian),
      set: (view, at, value) => view.setBigInt64(at + offset, value, littleEndian),
    }),
    bytes: (offset, width) => ({
      offset,
      width,
      get: (view, at) => new Uint8Array(view.buffer, view.byteOffset + at + offset, width),
      set(view, at, value) {
        const target = new Uint8Array(view.buffer, view.byteOffset + at + offset, width);
        target.set(value);
        target.fill(0, value.length);
      },
    }),
  };
}

export const littleEndian: FieldTypes = fieldTypes(true);
export const bigEndian: FieldTypes = fieldTypes(false);

type Fields = Record<string, Field<number> | Field<bigint> | Field<Uint8Array>>;

/** The values of a record's fields. */
export type Values<F extends Fields> = { [K in keyof F]: F[K] extends Field<infer T> ? T : never };

/** A record: its size in bytes, its fields, and both directions for all of them at once. */
export interface RecordType<F extends Fields> {
  readonly size: number;
  readonly fields: F;
  /** Sets the fields that are given; the others keep the bytes they have. */
  encode(view: DataView, at: number, values: Partial<Values<F>>): void;
  decode(view: DataView, at: number): Values<F>;
}

/** Declares a record; fields may leave gaps (reserved bytes) but neither overlap nor exceed the size. */
export function recordType<F extends Fields>(size: number, fields: F): RecordType<F> {
  let end = 0;
  for (const [name, field] of Object.entries(fields)) {
    if (field.offset < end || field.offset + field.width > size)
      throw new RangeError(`field ${name} overlaps`);
    end = field.offset + field.width;
  }
  return {
    size,
    fields,
    encode(view, at, values) {
      for (const [name, value] of Object.entries(values)) {
        (fields[name] as Field<unknown>).set(view, at, value);
      }
    },
    decode(view, at) {
      const values: Record<string, unknown> = {};
      for (const [name, field] of Object.entries(fields)) values[name] = field.get(view, at);
      return values as Values<F>;
    },
  };
}

/** The view through which records of these bytes are read and written. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
