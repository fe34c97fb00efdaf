/** An image to be expanded, wherever it comes from: its manifest, its configuration, and streams of its layers. */
import { stat } from 'node:fs/promises';
import { ArchiveFiles } from './archive-files.js';
import { printable } from './digest.js';
import { openDockerArchive } from './docker-archive.js';
import type { ImageConfig } from './image-config.js';
import { DirectoryFiles } from './input-files.js';
import { openLayoutInput } from './layout-input.js';
import type { Manifest, Platform } from './manifest.js';
import { OciError } from './oci-error.js';
import { parsePlatform } from './platform.js';

export interface InputLayer {
  /** Of the blob as it is stored, compressed or not. */
  digest: string;
  /** sha256 of the uncompressed tar. */
  diffID: string;
  /** Bytes of the blob. */
  size: number;
  mediaType: string;
  /** The blob, verified while it is read: it ends with an OciError if its bytes are not those of `digest`. */
  open(): AsyncIterable<Uint8Array>;
}

export interface ImageInput {
  /** What the user gave, for messages. */
  location: string;
  /** The name that the input gives the image, if any: a tag, `NAME:TAG` or a full reference. */
  name?: string;
  manifestDigest: string;
  manifest: Manifest;
  /** The bytes of manifestDigest. */
  manifestBytes: Uint8Array;
  config: ImageConfig;
  /** The bytes of manifest.config. */
  configBytes: Uint8Array;
  /** Lowest first. */
  layers: InputLayer[];
  close(): Promise<void>;
}

const TRANSPORTS = ['oci', 'oci-archive', 'docker-archive'] as const;
type Transport = (typeof TRANSPORTS)[number];

interface InputSpec {
  transport: Transport;
  path: string;
  /** Name, tag or digest of the image in the input. */
  selector?: string;
}

/**
 * Splits `TRANSPORT:PATH[:NAME]`. A path may have colons: the longest part that exists is the path, and what
 * follows it is the name. Throws OciError UNSUPPORTED, NOT_FOUND.
 */
async function parseSpec(spec: string): Promise<InputSpec> {
  const transport = TRANSPORTS.find((name) => spec.startsWith(`${name}:`));
  if (transport === undefined) {
    throw new OciError(
      'UNSUPPORTED',
      `${printable(spec)} is not an image input; write oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME:TAG]`,
    );
  }
  const rest = spec.slice(transport.length + 1);
  for (let end = rest.length; end > 0; end = rest.lastIndexOf(':', end - 1)) {
    const path = rest.slice(0, end);
    const status = await stat(path).catch(() => undefined);
    if (status === undefined) continue;
    const selector = rest.slice(end + 1);
    if (transport === 'oci' && !status.isDirectory()) {
      throw new OciError(
        'UNSUPPORTED',
        `${path} is not a directory; for a file write oci-archive: or docker-archive:`,
      );
    }
    if (transport !== 'oci' && !status.isFile()) {
      throw new OciError('UNSUPPORTED', `${path} is not a file; for a directory write oci:${path}`);
    }
    return { transport, path, ...(selector === '' ? {} : { selector }) };
  }
  const path = rest.split(':', 1)[0] ?? '';
  throw new OciError(
    'NOT_FOUND',
    `${printable(path)}: no such file or directory; check the path after ${transport}:`,
  );
}

/**
 * Opens `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]` or `docker-archive:FILE[:NAME:TAG]`; instead of the name a digest
 * may be given. Of several platforms `platform` (`os/arch[/variant]`, default linux/amd64) is taken. Everything
 * but the layers has been read and verified when this resolves. Throws OciError.
 */
export async function openImageInput(spec: string, platform?: string): Promise<ImageInput> {
  const { transport, path, selector } = await parseSpec(spec);
  const wanted: Platform | undefined = platform === undefined ? undefined : parsePlatform(platform);
  const files = transport === 'oci' ? new DirectoryFiles(path) : await ArchiveFiles.open(path);
  try {
    return transport === 'docker-archive'
      ? await openDockerArchive(files, selector, wanted)
      : await openLayoutInput(files, selector, wanted);
  } catch (error) {
    await files.close();
    throw error;
  }
}
