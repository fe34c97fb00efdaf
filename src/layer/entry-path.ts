/** Names of tar entries and targets of hard links, as paths below the root of the layer. */
import type { ByteString } from '../erofs/tree.js';
import { quoteName } from '../tar/tar.js';
import { LayerError } from './layer-error.js';

/** NAME_MAX of Linux, and the most that an EROFS directory entry can hold. */
const MAX_COMPONENT_LENGTH = 255;

/** PATH_MAX of Linux: nobody can open what lies deeper by its path. */
const MAX_PATH_LENGTH = 4096;

/**
 * The components of a name, without empty ones and `.`: a leading `/` or `./` counts for nothing, as in every
 * tar. Empty for the root. Throws HOSTILE_PATH for `..`, INVALID_ENTRY for what Linux has no room for; `entry` is
 * the name of the entry that messages tell.
 */
export function pathComponents(name: ByteString, entry: ByteString): ByteString[] {
  const components = name.split('/').filter((component) => component !== '' && component !== '.');
  for (const component of components) checkComponent(component, entry);
  if (name.length > MAX_PATH_LENGTH) {
    throw new LayerError(
      'INVALID_ENTRY',
      `layer: the path of ${quoteName(entry)} is longer than ${MAX_PATH_LENGTH} bytes`,
    );
  }
  return components;
}

/** Throws as pathComponents() does. */
export function checkComponent(component: ByteString, entry: ByteString): void {
  if (component === '..') {
    throw new LayerError('HOSTILE_PATH', `layer: ${quoteName(entry)} leads out of the layer with '..'`);
  }
  if (component.length > MAX_COMPONENT_LENGTH) {
    throw new LayerError(
      'INVALID_ENTRY',
      `layer: a name in ${quoteName(entry)} has ${component.length} bytes; file systems allow ${MAX_COMPONENT_LENGTH}`,
    );
  }
}

/** What an entry's path means by the conventions of layers (OCI image-spec, layer.md, "Whiteouts"). */
export type PathMeaning =
  | { kind: 'entry' }
  /** The directory hides what the layers below have in it. */
  | { kind: 'opaque' }
  /** This name, in the same directory, is deleted. */
  | { kind: 'whiteout'; name: ByteString }
  /** Bookkeeping of AUFS. */
  | { kind: 'litter' };

const WHITEOUT_PREFIX = '.wh.';
const AUFS_PREFIX = '.wh..wh.';
const OPAQUE_MARK = '.wh..wh..opq';
const ENTRY: PathMeaning = { kind: 'entry' };

export function pathMeaning(components: readonly ByteString[], entry: ByteString): PathMeaning {
  if (!components.some((component) => component.startsWith(WHITEOUT_PREFIX))) return ENTRY;
  const name = components.at(-1) ?? '';
  const parents = components.slice(0, -1);
  if (parents.some((parent) => parent.startsWith(AUFS_PREFIX))) return { kind: 'litter' };
  if (parents.some((parent) => parent.startsWith(WHITEOUT_PREFIX))) {
    throw new LayerError(
      'HOSTILE_PATH',
      `layer: ${quoteName(entry)} lies in a directory with the name of a whiteout`,
    );
  }
  if (name === OPAQUE_MARK) return { kind: 'opaque' };
  if (name.startsWith(AUFS_PREFIX)) return { kind: 'litter' };
  const hidden = name.slice(WHITEOUT_PREFIX.length);
  if (hidden === '' || hidden === '.' || hidden === '..') {
    throw new LayerError('HOSTILE_PATH', `layer: ${quoteName(entry)} is a whiteout of no name`);
  }
  return { kind: 'whiteout', name: hidden };
}
