/** What may be done with a repository, whoever asks; the attributes of the ACR API, all true unless they are set. */
import { printable } from '../oci/digest.js';
import { ApiError } from './api-error.js';
import { type DataDirectory, readIfPresent } from './data-directory.js';

export interface RepositoryAttributes {
  /** Its images are expanded. */
  teleportEnabled: boolean;
  deleteEnabled: boolean;
  writeEnabled: boolean;
  readEnabled: boolean;
  /** It is listed in the catalog, and its tags can be listed. */
  listEnabled: boolean;
}

const DEFAULTS: RepositoryAttributes = {
  teleportEnabled: true,
  deleteEnabled: true,
  writeEnabled: true,
  readEnabled: true,
  listEnabled: true,
};

export const ATTRIBUTE_NAMES = Object.keys(DEFAULTS) as readonly (keyof RepositoryAttributes)[];

/** Those that have been set. */
export async function readAttributes(path: string): Promise<Partial<RepositoryAttributes>> {
  const content = await readIfPresent(path);
  return content === undefined ? {} : (JSON.parse(content.toString()) as Partial<RepositoryAttributes>);
}

/** All of them, with what a registry has for those that are not set. */
export function withDefaults(
  attributes: Partial<RepositoryAttributes>,
  defaults: Partial<RepositoryAttributes>,
): RepositoryAttributes {
  return { ...DEFAULTS, ...defaults, ...attributes };
}

export async function writeAttributes(
  data: DataDirectory,
  path: string,
  attributes: Partial<RepositoryAttributes>,
): Promise<void> {
  await data.write(path, Buffer.from(JSON.stringify(attributes)));
}

/** What a client wants to change. Throws ApiError UNSUPPORTED with status 400 for anything but attributes. */
export function parseAttributes(body: Uint8Array): Partial<RepositoryAttributes> {
  const invalid = (message: string) => new ApiError('UNSUPPORTED', { status: 400, message });
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    throw invalid('the body is not JSON');
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw invalid('the body is not a JSON object');
  }
  const changes = Object.entries(value);
  if (changes.length === 0) throw invalid(`no attribute to change; there are ${ATTRIBUTE_NAMES.join(', ')}`);
  for (const [name, wanted] of changes) {
    if (!(ATTRIBUTE_NAMES as readonly string[]).includes(name)) {
      throw invalid(`${printable(name)} is none of ${ATTRIBUTE_NAMES.join(', ')}`);
    }
    if (typeof wanted !== 'boolean') throw invalid(`${name} must be true or false`);
  }
  return Object.fromEntries(changes) as Partial<RepositoryAttributes>;
}
