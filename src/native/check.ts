/**
 * Checks of arguments at the door of the addon. They throw TypeError or RangeError: a wrong argument is a bug of
 * the caller, not a failure of Orca's.
 */
import { types } from 'node:util';

export function checkString(value: unknown, name: string): void {
  if (typeof value !== 'string') throw new TypeError(`${name} must be a string`);
}

/** A path or another C string: not empty, without NUL. */
export function checkText(value: unknown, name: string): void {
  checkString(value, name);
  if (value === '' || (value as string).includes('\0'))
    throw new TypeError(`${name} must not be empty or hold NUL`);
}

export function checkInteger(value: unknown, name: string, minimum: number, maximum: number): void {
  if (!Number.isSafeInteger(value)) throw new TypeError(`${name} must be an integer`);
  if ((value as number) < minimum || (value as number) > maximum)
    throw new RangeError(`${name} must be from ${minimum} to ${maximum}, not ${value}`);
}

/**
 * Bytes in memory of this thread that stays where it is; of one of these lengths, if any are given. Returns the length
 * that the addon will see, whatever a subclass says.
 */
export function checkBytes(value: unknown, name: string, ...lengths: readonly number[]): number {
  if (!types.isUint8Array(value)) throw new TypeError(`${name} must be a Uint8Array`);
  const length = TYPED_ARRAY.byteLength.call(value) as number;
  const buffer = TYPED_ARRAY.buffer.call(value) as ArrayBuffer & { resizable?: boolean };
  if (types.isSharedArrayBuffer(buffer)) throw new TypeError(`${name} must not be in shared memory`);
  if (buffer.resizable) throw new TypeError(`${name} must not be in resizable memory`);
  if (lengths.length > 0 && !lengths.includes(length))
    throw new RangeError(`${name} must have ${lengths.join(' or ')} bytes, not ${length}`);
  return length;
}

/** The getters of the language. */
const TYPED_ARRAY = {
  byteLength: getterOf('byteLength'),
  buffer: getterOf('buffer'),
};

function getterOf(name: string): () => unknown {
  const prototype = Object.getPrototypeOf(Uint8Array.prototype);
  return Object.getOwnPropertyDescriptor(prototype, name)!.get!;
}

export function checkFunction(value: unknown, name: string): void {
  if (typeof value !== 'function') throw new TypeError(`${name} must be a function`);
}

export function checkOptions(value: unknown): void {
  if (typeof value !== 'object' || value === null) throw new TypeError('options must be an object');
}

/** The largest file descriptor, errno, flag word. */
export const MAX_INT = 0x7fffffff;
