/** Which extended attributes of a tar entry a layer keeps. */
import type { ByteString } from '../erofs/tree.js';
import { xattrAreaSize } from '../erofs/xattrs.js';
import { quoteName } from '../tar/tar.js';
import { LayerError } from './layer-error.js';

const KEPT = /^(?:user|trusted|security)\.|^system\.posix_acl_(?:access|default)$/;

/** They would make a tar speak for overlayfs or for Orca, which give them a meaning across layers. */
const RESERVED = /^trusted\.(?:overlay|orca)(?:\.|$)/;

const NONE: ReadonlyMap<ByteString, Uint8Array> = new Map();

/**
 * Those of the namespaces that the kernel keeps in EROFS, without the reserved ones; `warn` is told of each that
 * is dropped. Throws INVALID_ENTRY when an inode cannot hold them.
 */
export function layerXattrs(
  xattrs: ReadonlyMap<ByteString, Uint8Array>,
  entry: ByteString,
  warn: (message: string) => void,
): ReadonlyMap<ByteString, Uint8Array> {
  if (xattrs.size === 0) return NONE;
  const kept = new Map<ByteString, Uint8Array>();
  for (const [name, value] of xattrs) {
    if (KEPT.test(name) && !RESERVED.test(name)) kept.set(name, value);
    else warn(`layer: the xattr ${quoteName(name)} of ${quoteName(entry)} is dropped`);
  }
  try {
    xattrAreaSize(kept);
  } catch (cause) {
    const what = cause instanceof Error ? cause.message : String(cause);
    throw new LayerError('INVALID_ENTRY', `layer: ${quoteName(entry)}: ${what}`, { cause });
  }
  return kept;
}
