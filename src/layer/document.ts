/** What the binary documents of a layer (block digests, recipe, checkpoints) have in common: magic, version, errors. */
import { LayerError } from './layer-error.js';

export interface DocumentFormat {
  /** The first bytes, ASCII. */
  magic: string;
  /** The one that can be read: the 32 bits after the magic. */
  version: number;
  /** For messages: `layer recipe`, `a layer recipe`, `this is no layer recipe`. */
  name: string;
  some: string;
  none: string;
}

/** Checks magic and version and decodes the rest; whatever `decode` throws means damage. Throws LayerError CORRUPT. */
export function decodeDocument<T>(
  encoded: Uint8Array,
  format: DocumentFormat,
  decode: (bytes: Buffer) => T,
): T {
  const bytes = Buffer.from(encoded.buffer, encoded.byteOffset, encoded.length);
  const { magic, some, none, name } = format;
  if (bytes.toString('latin1', 0, magic.length) !== magic) {
    throw new LayerError('CORRUPT', `${none}; expand the image again`);
  }
  try {
    const version = bytes.readUInt32LE(magic.length);
    if (version !== format.version) {
      throw new LayerError('CORRUPT', `${some} of version ${version}, only ${format.version} can be read`);
    }
    return decode(bytes);
  } catch (cause) {
    if (cause instanceof LayerError) throw cause;
    throw damaged(name, cause);
  }
}

export function damaged(name: string, cause: unknown): LayerError {
  return new LayerError('CORRUPT', `damaged ${name}; expand the image again`, { cause });
}
