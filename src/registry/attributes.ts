/** What may be done with a repository, whoever asks; the attributes of the ACR API, all true but the first. */
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
  teleportEnabled: false,
  deleteEnabled: true,
  writeEnabled: true,
  readEnabled: true,
  listEnabled: true,
};

export const ATTRIBUTE_NAMES = Object.keys(DEFAULTS) as readonly (keyof RepositoryAttributes)[];

export async function readAttributes(path: string): Promise<RepositoryAttributes> {
  const content = await readIfPresent(path);
  return { ...DEFAULTS, ...(content && (JSON.parse(content.toString()) as Partial<RepositoryAttributes>)) };
}

export async function writeAttributes(
  data: DataDirectory,
  path: string,
  attributes: RepositoryAttributes,
): Promise<void> {
  await data.write(path, Buffer.from(JSON.stringify(attributes)));
}
