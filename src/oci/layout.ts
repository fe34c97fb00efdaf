/** OCI image layouts (OCI image-spec, image-layout.md): read from a directory or an archive, written as a directory. */
import { mkdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { digestOf, parseDigest, verifyBytes, verifyStream } from './digest.js';
import { writeDurably } from './durable-file.js';
import { DirectoryFiles, type InputFiles, missing } from './input-files.js';
import { JsonObject } from './json-object.js';
import {
  type Descriptor,
  encodeIndex,
  type ImageIndex,
  MAX_MANIFEST_BYTES,
  MEDIA_TYPE,
  parseIndex,
} from './manifest.js';
import { OciError } from './oci-error.js';

const MARKER = 'oci-layout';
const VERSION = '1.0.0';
const INDEX = 'index.json';
/** A layout may list very many images, as that of a store does: 400 bytes each. */
const MAX_INDEX_BYTES = 64 << 20;

export function layoutBlobPath(digest: string): string {
  const { algorithm, hex } = parseDigest(digest, 'blob');
  return `blobs/${algorithm}/${hex}`;
}

/** A layout that is read; every blob is verified against its descriptor. */
export class OciLayout {
  protected constructor(readonly files: InputFiles) {}

  /** Throws OciError INVALID_LAYOUT unless the files are those of a layout of version 1. */
  static async open(files: InputFiles): Promise<OciLayout> {
    if ((await files.size(MARKER)) === undefined) {
      throw new OciError(
        'INVALID_LAYOUT',
        `${files.location}: no ${MARKER} file, so it is not an OCI image layout`,
      );
    }
    const what = `${files.location}/${MARKER}`;
    const marker = JsonObject.parse(
      await files.read(MARKER, MAX_MANIFEST_BYTES),
      MAX_MANIFEST_BYTES,
      'INVALID_LAYOUT',
      what,
    );
    const version = marker.requiredString('imageLayoutVersion');
    if (!version.startsWith('1.'))
      throw marker.error('imageLayoutVersion', `${version} is not supported (${VERSION})`);
    return new OciLayout(files);
  }

  async readIndex(): Promise<ImageIndex> {
    const bytes = await this.files.read(INDEX, MAX_INDEX_BYTES);
    return parseIndex(bytes, `${this.files.location}/${INDEX}`, MAX_INDEX_BYTES);
  }

  /** Throws OciError NOT_FOUND or SIZE_MISMATCH when the blob cannot be the right one, without reading it. */
  async checkBlob(descriptor: Descriptor, what: string): Promise<void> {
    const size = await this.files.size(layoutBlobPath(descriptor.digest));
    if (size === undefined) throw missing(this.files, layoutBlobPath(descriptor.digest));
    if (size !== descriptor.size) {
      throw new OciError(
        'SIZE_MISMATCH',
        `${this.files.location}: ${what} ${descriptor.digest}: ${descriptor.size} bytes are declared, ${size} are there; make the copy again`,
      );
    }
  }

  /** A small blob, verified. Throws also DIGEST_MISMATCH and TOO_LARGE. */
  async readBlob(descriptor: Descriptor, what: string, maxBytes = MAX_MANIFEST_BYTES): Promise<Uint8Array> {
    const bytes = await this.files.read(layoutBlobPath(descriptor.digest), maxBytes);
    verifyBytes(bytes, descriptor, `${this.files.location}: ${what}`);
    return bytes;
  }

  /** A blob of any size, verified while it is read. */
  streamBlob(descriptor: Descriptor, what: string): AsyncIterable<Uint8Array> {
    const source = this.files.stream(layoutBlobPath(descriptor.digest));
    return verifyStream(source, descriptor, `${this.files.location}: ${what}`);
  }

  close(): Promise<void> {
    return this.files.close();
  }
}

/** A layout in a directory that can be added to. Whoever changes index.json must see to it that nobody else does. */
export class WritableLayout extends OciLayout {
  private constructor(
    readonly dir: string,
    private readonly temporaryDir: string,
  ) {
    super(new DirectoryFiles(dir));
  }

  /** Opens the layout in `dir` or makes an empty one. `temporaryDir` must be on the same file system. */
  static async create(dir: string, temporaryDir = dir): Promise<WritableLayout> {
    const layout = new WritableLayout(dir, temporaryDir);
    await mkdir(join(dir, 'blobs', 'sha256'), { recursive: true });
    if ((await layout.files.size(INDEX)) === undefined) {
      await layout.writeIndex({ mediaType: MEDIA_TYPE.index, manifests: [] });
    }
    if ((await layout.files.size(MARKER)) === undefined) {
      await writeDurably(
        join(dir, MARKER),
        Buffer.from(JSON.stringify({ imageLayoutVersion: VERSION })),
        temporaryDir,
      );
    }
    return layout;
  }

  /** Stores a blob, unless it is there, and returns its descriptor. */
  async writeBlob(mediaType: string, bytes: Uint8Array): Promise<Descriptor> {
    const descriptor = { mediaType, digest: digestOf(bytes), size: bytes.length };
    await this.writeBlobStream(descriptor, [bytes]);
    return descriptor;
  }

  /** Stores a blob whose digest is known, and verifies it on the way; nothing is stored when it differs. */
  async writeBlobStream(
    descriptor: Descriptor,
    source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  ): Promise<void> {
    const path = join(this.dir, layoutBlobPath(descriptor.digest));
    const existing = await stat(path).catch(() => undefined);
    if (existing?.size === descriptor.size) return;
    await mkdir(dirname(path), { recursive: true });
    async function* chunks() {
      yield* source;
    }
    await writeDurably(path, verifyStream(chunks(), descriptor, 'blob'), this.temporaryDir);
  }

  async writeIndex(index: ImageIndex): Promise<void> {
    await writeDurably(join(this.dir, INDEX), encodeIndex(index), this.temporaryDir);
  }
}
