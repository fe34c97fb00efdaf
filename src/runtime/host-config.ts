/**
 * The configuration file of a host, /etc/orca/config.toml (docs/OPERATIONS.md, "Configuration file"): what its
 * commands take where neither an option nor the environment says otherwise.
 */
import { readFile } from 'node:fs/promises';
import type { TomlTable } from 'smol-toml';
import { PROFILE_USES, type ProfileUse } from '../mount/profile-use.js';
import type { TransportKind } from '../source/mount-description.js';
import { RuntimeError } from './runtime-error.js';
import { parseDuration, parseSize } from './units.js';

export const CONFIG_PATH = '/etc/orca/config.toml';
/** A hundred registries with their settings take a tenth of this. */
const MAX_BYTES = 1 << 20;

export interface HostConfig {
  region?: string;
  /** Directories. */
  cache?: string;
  runDir?: string;
  /** Bytes. */
  cacheSize?: number;
  transports?: TransportKind[];
  /** Milliseconds. */
  wait?: number;
  /** Walk startup profiles through mounts; what becomes of those that are recorded. */
  preload?: boolean;
  profiles?: ProfileUse;
  /** Bytes per second: fetch what is left of mounted images when the host is idle. */
  background?: number;
  /** `host[:port]`. */
  insecureRegistries: string[];
  /** PEM file of CAs that every registry is trusted by. */
  registryCa?: string;
  /** URLs by registry. */
  mirrors: Record<string, string[]>;
  /** PEM files of CAs by registry. */
  registryCas: Record<string, string>;
}

/** The file at `path`; without one, what lies at CONFIG_PATH or nothing. Throws RuntimeError INVALID_CONFIG. */
export async function readHostConfig(path?: string): Promise<HostConfig> {
  const file = path ?? CONFIG_PATH;
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (path === undefined && (code === 'ENOENT' || code === 'ENOTDIR')) return parseHostConfig('', file);
    throw new RuntimeError('INVALID_CONFIG', `${file} cannot be read (${code})`, { cause });
  }
  return parseHostConfig(text, file);
}

/** `file` is for messages, which name the key and its line. */
export async function parseHostConfig(text: string, file: string): Promise<HostConfig> {
  const config: HostConfig = { insecureRegistries: [], mirrors: {}, registryCas: {} };
  if (text.trim() === '') return config;
  if (text.length > MAX_BYTES) {
    throw new RuntimeError('INVALID_CONFIG', `${file} is larger than ${MAX_BYTES} bytes`);
  }
  const { parse, TomlError } = await import('smol-toml');
  let document: TomlTable;
  try {
    document = parse(text);
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const [reason] = cause.message.replace(/^Invalid TOML document: /, '').split('\n');
    throw new RuntimeError('INVALID_CONFIG', `${file}:${cause.line}: ${reason}`, { cause });
  }
  const fields = new Fields(document, text, file, []);
  fields.each({
    region: (key) => assign(config, 'region', fields.string(key)),
    cache: (key) => assign(config, 'cache', fields.string(key)),
    'run-dir': (key) => assign(config, 'runDir', fields.string(key)),
    'cache-size': (key) => assign(config, 'cacheSize', fields.parsed(key, parseSize, 'a size such as "20G"')),
    wait: (key) => assign(config, 'wait', fields.parsed(key, parseDuration, 'a time such as "90s"')),
    preload: (key) => assign(config, 'preload', fields.boolean(key)),
    background: (key) => assign(config, 'background', fields.parsed(key, parseSize, 'a size such as "16M"')),
    profiles: (key) => assign(config, 'profiles', fields.oneOf(key, PROFILE_USES)),
    transports: (key) => assign(config, 'transports', fields.transports(key)),
    'insecure-registries': (key) => config.insecureRegistries.push(...fields.strings(key)),
    'registry-ca': (key) => assign(config, 'registryCa', fields.string(key)),
    mirrors: (key) => {
      const mirrors = fields.table(key);
      for (const name of mirrors.keys) config.mirrors[name] = mirrors.strings(name);
    },
    registry: (key) => {
      const registries = fields.table(key);
      for (const host of registries.keys) readRegistry(registries.table(host), host, config);
    },
  });
  return config;
}

function readRegistry(fields: Fields, host: string, config: HostConfig): void {
  fields.each({
    ca: (key) => {
      config.registryCas[host] = fields.string(key);
    },
    insecure: (key) => {
      if (fields.boolean(key)) config.insecureRegistries.push(host);
    },
    mirrors: (key) => {
      config.mirrors[host] = fields.strings(key);
    },
  });
}

function assign<K extends keyof HostConfig>(config: HostConfig, key: K, value: HostConfig[K]): void {
  config[key] = value;
}

/** One table of the document, asked for its fields by name and type. */
class Fields {
  constructor(
    private readonly record: TomlTable,
    private readonly text: string,
    private readonly file: string,
    private readonly path: readonly string[],
  ) {}

  get keys(): string[] {
    return Object.keys(this.record);
  }

  /** Calls the reader of each key that is there; a key without a reader is an error. */
  each(readers: Readonly<Record<string, (key: string) => unknown>>): void {
    for (const key of this.keys) {
      const read = Object.hasOwn(readers, key) ? readers[key] : undefined;
      if (read === undefined)
        throw this.error(key, `is unknown; known here: ${Object.keys(readers).join(', ')}`);
      read(key);
    }
  }

  string(key: string): string {
    const value = this.record[key];
    if (typeof value !== 'string' || value === '') throw this.error(key, 'must be a string');
    return value;
  }

  parsed(key: string, parse: (text: string) => number | undefined, what: string): number {
    const value = this.record[key];
    const number = parse(typeof value === 'number' ? String(value) : this.string(key));
    if (number === undefined) throw this.error(key, `must be ${what}`);
    return number;
  }

  boolean(key: string): boolean {
    const value = this.record[key];
    if (typeof value !== 'boolean') throw this.error(key, 'must be true or false');
    return value;
  }

  oneOf<T extends string>(key: string, values: readonly T[]): T {
    const value = values.find((one) => one === this.record[key]);
    if (value === undefined) throw this.error(key, `must be one of ${values.join(', ')}`);
    return value;
  }

  strings(key: string): string[] {
    const value = this.record[key];
    const isList = Array.isArray(value) && value.every((item) => typeof item === 'string');
    if (!isList) throw this.error(key, 'must be a list of strings');
    return value as string[];
  }

  transports(key: string): TransportKind[] {
    const kinds = this.strings(key);
    const isKind = (kind: string): kind is TransportKind => ['smb', 'https', 'blob'].includes(kind);
    if (!kinds.every(isKind)) throw this.error(key, 'must be a list of smb, https and blob');
    return kinds;
  }

  table(key: string): Fields {
    const value = this.record[key];
    const isTable = typeof value === 'object' && !Array.isArray(value) && !(value instanceof Date);
    if (!isTable) throw this.error(key, 'must be a table');
    return new Fields(value as TomlTable, this.text, this.file, [...this.path, key]);
  }

  error(key: string, why: string): RuntimeError {
    const path = [...this.path, key];
    const line = lineOf(this.text, path);
    return new RuntimeError('INVALID_CONFIG', `${this.file}:${line}: ${path.join('.')} ${why}`);
  }
}

/**
 * The line on which a key stands: below its table's header, as a dotted key, or as part of a header. What is inside
 * an inline table stands on the line of the table.
 */
function lineOf(text: string, path: readonly string[]): number {
  let table: string[] = [];
  let above = { line: 1, depth: 0 };
  for (const [index, line] of text.split('\n').entries()) {
    const header = /^\s*\[\[?([^\]]*)\]/.exec(line)?.[1];
    const key = /^\s*((?:"[^"]*"|'[^']*'|[\w-]+|\s*\.\s*)+)\s*=/.exec(line)?.[1];
    if (header !== undefined) table = parts(header);
    const found = header !== undefined ? table : key === undefined ? [] : [...table, ...parts(key)];
    if (path.every((part, i) => part === found[i])) return index + 1;
    const leadsThere = found.every((part, i) => part === path[i]);
    if (leadsThere && found.length > above.depth) above = { line: index + 1, depth: found.length };
  }
  return above.line;
}

function parts(key: string): string[] {
  return [...key.matchAll(/"([^"]*)"|'([^']*)'|([\w-]+)/g)].map(([, a, b, c]) => a ?? b ?? c ?? '');
}
