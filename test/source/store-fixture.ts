/** Small stores with real layer VHDs and a real image index, made without a tar. */
import { createCipheriv, createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  BLOCK_SIZE,
  type Directory,
  type Inode,
  type InodeAttributes,
  type RegularFile,
} from '../../src/erofs/tree.js';
import { writeErofs } from '../../src/erofs/writer.js';
import { DIGEST_SET_TYPE, encodeTeleportArtifact } from '../../src/image/artifact.js';
import {
  blobPath,
  blockDigestsPath,
  emptyCatalog,
  encodeMarker,
  INDEX_PATH,
  layerPath,
  MARKER_PATH,
  parseCatalog,
  withImage,
} from '../../src/image/catalog.js';
import { buildImageIndex } from '../../src/image/image-index.js';
import { digestOf } from '../../src/oci/digest.js';
import { type Descriptor, encodeIndex, encodeManifest, MEDIA_TYPE } from '../../src/oci/manifest.js';
import { fixedFooter } from '../../src/vhd/vhd.js';
import { digestsOf, type TestLayer } from '../cache/layer-fixture.js';

/** A regular file that is more than its content; one object under two paths is a hard link. */
export interface TestFile extends Partial<InodeAttributes> {
  content: Buffer;
  /** Bytes of hole before the content, a multiple of BLOCK_SIZE. */
  hole?: number;
}

/** What is at each path: a regular file with this content, or an inode of another kind. */
export type Files = Record<string, Buffer | TestFile | Exclude<Inode, RegularFile>>;

export interface TestImage {
  manifestDigest: string;
  layers: TestLayer[];
  /** Of the image index, the teleport artifact and the block digests. */
  imageIndex: Descriptor;
  artifact: Descriptor;
  digests: Descriptor[];
}

const NO_ATTRIBUTES = { uid: 0, gid: 0, mtime: 0n, xattrs: new Map<string, Uint8Array>() };

function emptyDirectory(): Directory {
  return { kind: 'directory', mode: 0o755, ...NO_ATTRIBUTES, children: new Map() };
}

/** The directory that `parts` lead to, made if it is missing. */
function directoryAt(root: Directory, parts: readonly string[]): Directory {
  return parts.reduce((directory, part) => {
    const child = directory.children.get(part) ?? emptyDirectory();
    if (child.kind !== 'directory') throw new Error(`${part} is not a directory`);
    directory.children.set(part, child);
    return child;
  }, root);
}

/** The diffID is the digest of the VHD itself. */
function layerOf(files: Files, blockSize: number): TestLayer {
  const root = emptyDirectory();
  const data: Buffer[] = [];
  let next = 1;
  const regularFile = ({ content, hole = 0, ...attributes }: TestFile): RegularFile => {
    const blocks = Math.ceil(content.length / BLOCK_SIZE);
    data.push(content, Buffer.alloc(blocks * BLOCK_SIZE - content.length));
    next += blocks;
    return {
      kind: 'file',
      mode: 0o644,
      ...NO_ATTRIBUTES,
      ...attributes,
      size: hole + content.length,
      extents: blocks === 0 ? [] : [{ fileOffset: hole, device: 0, block: next - blocks, blocks }],
    };
  };
  const made = new Map<Files[string], Inode>();
  for (const [path, entry] of Object.entries(files)) {
    const isFile = Buffer.isBuffer(entry) || 'content' in entry;
    const inode =
      made.get(entry) ?? (isFile ? regularFile(Buffer.isBuffer(entry) ? { content: entry } : entry) : entry);
    made.set(entry, inode);
    const parts = path.split('/');
    directoryAt(root, parts.slice(0, -1)).children.set(parts.at(-1) as string, inode);
  }
  const written = writeErofs(root, { uuid: new Uint8Array(16), dataBlocks: next - 1 });
  const payload = Buffer.concat([written.superblock, ...data, ...written.metadata]);
  const bytes = Buffer.concat([payload, fixedFooter(payload.length, new Uint8Array(16))]);
  return { bytes, digests: digestsOf(bytes, blockSize) };
}

/** Adds an image of these layers, lowest first, to the store, which is made if it is missing. */
export async function addImage(
  store: string,
  name: string | undefined,
  layers: readonly Files[],
  blockSize = 16384,
  withSet = false,
): Promise<TestImage> {
  const put = async (path: string, bytes: Uint8Array) => {
    await mkdir(dirname(join(store, path)), { recursive: true });
    await writeFile(join(store, path), bytes);
  };
  const putBlob = async (mediaType: string, bytes: Uint8Array): Promise<Descriptor> => {
    const digest = digestOf(bytes);
    await put(blobPath(digest), bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const made = layers.map((files) => layerOf(files, blockSize));
  for (const { bytes, digests } of made) {
    await put(layerPath(digests.diffID), bytes);
    await put(blockDigestsPath(digests.diffID), digests.encode());
  }
  const diffIDs = made.map(({ digests }) => digests.diffID);
  const { pieces } = buildImageIndex(
    diffIDs.map((diffID) => ({ diffID, path: join(store, layerPath(diffID)) })),
  );
  const distinct = new Map(made.map((layer) => [layer.digests.diffID, layer]));
  const config = { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: diffIDs } };
  const manifest = await putBlob(
    MEDIA_TYPE.manifest,
    encodeManifest({
      mediaType: MEDIA_TYPE.manifest,
      config: await putBlob(MEDIA_TYPE.config, Buffer.from(JSON.stringify(config))),
      layers: diffIDs.map((digest) => ({ mediaType: MEDIA_TYPE.layerTar, digest, size: 1 })),
    }),
  );
  const imageIndex = await putBlob('application/octet-stream', Buffer.concat(pieces));
  const digests: Descriptor[] = [];
  for (const layer of distinct.values()) {
    digests.push(await putBlob('application/octet-stream', layer.digests.encode()));
  }
  const documents = [...distinct.values()].map((layer) => layer.digests.encode());
  const digestSet = withSet && (await putBlob(DIGEST_SET_TYPE, Buffer.concat(documents)));
  const artifact = await putBlob(
    MEDIA_TYPE.manifest,
    encodeTeleportArtifact({
      subject: manifest,
      imageIndex,
      digests: [...distinct.keys()].map((diffID, i) => ({ diffID, descriptor: digests[i] as Descriptor })),
      ...(digestSet && { digestSet }),
    }),
  );
  const before = await readFile(join(store, INDEX_PATH)).then(parseCatalog, () => emptyCatalog());
  await put(MARKER_PATH, encodeMarker());
  await put(INDEX_PATH, encodeIndex(withImage(before, manifest, artifact, name)));
  return {
    manifestDigest: manifest.digest,
    layers: [...distinct.values()],
    imageIndex,
    artifact,
    digests,
  };
}

/** Content that no two calls with other arguments share. */
export function content(name: string, size: number): Buffer {
  const key = createHash('sha256').update(name).digest().subarray(0, 16);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size));
}
