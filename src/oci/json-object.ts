/**
 * Reading untrusted JSON: fields are asked for by name and type, everything else in the document is left out,
 * and an error names the document and the field.
 */
import { printable } from './digest.js';
import { OciError } from './oci-error.js';

/** Elements that a list may have: ten times what the largest known indexes, images and configs need. */
const MAX_ELEMENTS = 100_000;

export class JsonObject {
  /** `code` is that of the errors; `where` names the object, such as `manifest sha256:…: layers[2]`. */
  private constructor(
    private readonly record: Readonly<Record<string, unknown>>,
    private readonly code: string,
    private readonly where: string,
  ) {}

  /** Parses a document of at most `maxBytes` bytes whose top level is an object. */
  static parse(bytes: Uint8Array, maxBytes: number, code: string, what: string): JsonObject {
    if (bytes.length > maxBytes) {
      throw new OciError(
        'TOO_LARGE',
        `${what}: ${bytes.length} bytes, more than the ${maxBytes} that are allowed`,
      );
    }
    let value: unknown;
    try {
      value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    } catch (cause) {
      throw new OciError(code, `${what}: not valid JSON`, { cause });
    }
    return JsonObject.of(value, code, what);
  }

  private static of(value: unknown, code: string, where: string): JsonObject {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new OciError(code, `${where}: must be an object`);
    }
    return new JsonObject(value as Record<string, unknown>, code, where);
  }

  /** An error about one field of this object. */
  error(key: string, why: string): OciError {
    return new OciError(this.code, `${this.where}: ${key}: ${why}`);
  }

  /** `null` counts as absent: Go programs write it for what is empty. */
  private field(key: string): unknown {
    return (Object.hasOwn(this.record, key) ? this.record[key] : undefined) ?? undefined;
  }

  has(key: string): boolean {
    return this.field(key) !== undefined;
  }

  string(key: string): string | undefined {
    const value = this.field(key);
    if (value !== undefined && typeof value !== 'string') throw this.error(key, 'must be a string');
    return value;
  }

  requiredString(key: string): string {
    const value = this.string(key);
    if (value === undefined || value === '') throw this.error(key, 'is missing');
    return value;
  }

  boolean(key: string): boolean | undefined {
    const value = this.field(key);
    if (value !== undefined && typeof value !== 'boolean') throw this.error(key, 'must be true or false');
    return value;
  }

  /** A non-negative integer. */
  size(key: string): number {
    const value = this.field(key);
    if (!Number.isSafeInteger(value) || (value as number) < 0) {
      throw this.error(key, `must be a non-negative integer, is ${printable(String(value))}`);
    }
    return value as number;
  }

  object(key: string): JsonObject | undefined {
    const value = this.field(key);
    return value === undefined ? undefined : JsonObject.of(value, this.code, `${this.where}: ${key}`);
  }

  private list(key: string): readonly unknown[] | undefined {
    const value = this.field(key);
    if (value === undefined) return undefined;
    if (!Array.isArray(value)) throw this.error(key, 'must be a list');
    if (value.length > MAX_ELEMENTS) throw this.error(key, `has more than ${MAX_ELEMENTS} elements`);
    return value;
  }

  objects(key: string): JsonObject[] | undefined {
    return this.list(key)?.map((value, i) => JsonObject.of(value, this.code, `${this.where}: ${key}[${i}]`));
  }

  strings(key: string): string[] | undefined {
    return this.list(key)?.map((value, i) => {
      if (typeof value !== 'string') throw this.error(`${key}[${i}]`, 'must be a string');
      return value;
    });
  }

  /** An object whose values are all strings. */
  stringMap(key: string): Record<string, string> | undefined {
    const object = this.object(key);
    if (object === undefined) return undefined;
    const entries = Object.keys(object.record).map((name) => [name, object.string(name) ?? ''] as const);
    return Object.fromEntries(entries);
  }

  /** The keys of an object that stands for a set, such as Volumes. */
  keys(key: string): string[] | undefined {
    const object = this.object(key);
    return object === undefined ? undefined : Object.keys(object.record);
  }
}
