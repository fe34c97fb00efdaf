/**
 * Writes OCI image layouts from directories: a layer is packed by GNU tar, everything else is a few JSON blobs.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { lstat, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';

export type Compression = 'none' | 'gzip' | 'zstd';

export interface PackedLayer {
  mediaType: string;
  digest: string;
  size: number;
  diffID: string;
  createdBy: string;
}

const LAYER = 'application/vnd.oci.image.layer.v1.tar';
const mediaTypes: Record<Compression, string> = { none: LAYER, gzip: `${LAYER}+gzip`, zstd: `${LAYER}+zstd` };

/** Packs a directory as a layer blob in the directory `blobs`, under its digest. */
export async function packLayer(
  directory: string,
  blobs: string,
  compression: Compression,
  createdBy: string,
): Promise<PackedLayer> {
  const path = join(blobs, 'layer.new');
  const xattrs = ['--xattrs', '--xattrs-include=security.capability', '--xattrs-include=user.*'];
  const pax = ['--format=pax', '--pax-option=delete=atime,delete=ctime', '--numeric-owner', '--sort=name'];
  const tar = spawn('tar', [...pax, ...xattrs, '-C', directory, '-c', '.'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const diffID = digestOf(tar.stdout);
  if (compression === 'zstd') {
    const zstd = spawn('zstd', ['-q', '-c'], { stdio: ['pipe', 'pipe', 'inherit'] });
    await Promise.all([pipeline(tar.stdout, zstd.stdin), pipeline(zstd.stdout, createWriteStream(path))]);
  } else if (compression === 'gzip') {
    await pipeline(tar.stdout, createGzip({ level: 6 }), createWriteStream(path));
  } else {
    await pipeline(tar.stdout, createWriteStream(path));
  }
  if (tar.exitCode === null) await once(tar, 'exit');
  if (tar.exitCode !== 0) throw new Error(`tar of ${directory} ended with ${tar.exitCode}`);
  const blob = createReadStream(path);
  const digest = digestOf(blob);
  await finished(blob);
  const { size } = await lstat(path);
  await rename(path, join(blobs, hexOf(digest())));
  return { mediaType: mediaTypes[compression], digest: digest(), size, diffID: diffID(), createdBy };
}

/** Completes the layout in `directory`, whose blobs/sha256/ holds the layers (lowest first), with one image. */
export async function writeLayout(
  directory: string,
  tag: string,
  config: Record<string, unknown>,
  layers: readonly PackedLayer[],
): Promise<void> {
  const blobs = join(directory, 'blobs', 'sha256');
  const created = '2024-01-01T00:00:00Z';
  const configBlob = await writeBlob(blobs, {
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    created,
    config,
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffID) },
    history: layers.map((layer) => ({ created, created_by: layer.createdBy })),
  });
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = await writeBlob(blobs, {
    schemaVersion: 2,
    mediaType,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...configBlob },
    layers: layers.map(({ mediaType, digest, size }) => ({ mediaType, digest, size })),
  });
  const annotations = { 'org.opencontainers.image.ref.name': tag };
  const index = { schemaVersion: 2, manifests: [{ mediaType, ...manifest, annotations }] };
  await writeFile(join(directory, 'index.json'), JSON.stringify(index));
  await writeFile(join(directory, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
}

export function hexOf(digest: string): string {
  return digest.slice('sha256:'.length);
}

/** Hashes what flows through the stream; the function returned gives the digest once it has ended. */
function digestOf(stream: Readable): () => string {
  const hash = createHash('sha256');
  stream.on('data', (chunk: Buffer) => hash.update(chunk));
  let hex: string | undefined;
  return () => `sha256:${(hex ??= hash.digest('hex'))}`;
}

async function writeBlob(blobs: string, value: unknown): Promise<{ digest: string; size: number }> {
  const bytes = Buffer.from(JSON.stringify(value));
  const hex = createHash('sha256').update(bytes).digest('hex');
  await writeFile(join(blobs, hex), bytes);
  return { digest: `sha256:${hex}`, size: bytes.length };
}
