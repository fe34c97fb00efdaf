/** The options of every command that takes an image from a registry or a store. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { ImageRequest } from '../mount/open-image.js';
import { parseDuration } from '../runtime/units.js';
import type { TransportKind } from '../source/mount-description.js';
import { addSourceOptions, type SourceOptions } from './options.js';

export interface ImageOptions extends SourceOptions {
  region?: string;
  transports?: TransportKind[];
  platform?: string;
  pull?: 'always' | 'missing' | 'never';
  wait?: number;
  insecureRegistry?: string[];
  registryCa?: string;
  registryMirror?: Record<string, string[]>;
  /** Of the configuration file alone. */
  registryCas?: Record<string, string>;
}

export const IMAGE_ARGUMENT =
  '[REGISTRY/]REPOSITORY[:TAG][@DIGEST]; with --store NAME[:TAG] or sha256:… in the store';

export function addImageOptions(command: Command): Command {
  addSourceOptions(command);
  return addRegistryOptions(command).addOption(
    new Option('--pull <policy>', 'when to ask the registry what the name stands for')
      .choices(['always', 'missing', 'never'])
      .default('missing'),
  );
}

export function addRegistryOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--region <name>', 'where this host is, as registries name regions').env('ORCA_REGION'),
    )
    .addOption(
      new Option('--transports <kinds>', 'transports that may be used, of smb,https,blob').argParser(
        parseTransports,
      ),
    )
    .option('--platform <os/arch[/variant]>', 'of a multi-platform image (default: that of this host)')
    .addOption(
      new Option(
        '--wait <time>',
        'how long to wait for the registry to expand the image before this host does so, such as 90s (default: not at all; without blob 5m)',
      ).argParser(durationOption),
    )
    .option('--insecure-registry <host[:port]>', 'may do without TLS, or have any certificate', collect)
    .option('--registry-ca <file>', 'CAs (PEM) that registries are trusted by, beside certs.d')
    .addOption(
      new Option(
        '--registry-mirror <[registry=]url>',
        'asked before the registry (docker.io if none is named)',
      ).argParser(parseMirror),
    );
}

/** Leaves out what is not set, so that the request stays small and plain. */
export async function imageRequestOf(image: string, options: ImageOptions): Promise<ImageRequest> {
  const { store, credentials, region, transports, pull, wait } = options;
  const { parsePlatform } = await import('../oci/platform.js');
  const registry = {
    ...(options.insecureRegistry === undefined ? {} : { insecure: options.insecureRegistry }),
    ...(options.registryCa === undefined ? {} : { caFile: options.registryCa }),
    ...(options.registryCas === undefined ? {} : { caFiles: options.registryCas }),
    ...(options.registryMirror === undefined ? {} : { mirrors: options.registryMirror }),
  };
  return {
    image,
    ...(store ? { store } : {}),
    ...(credentials === undefined ? {} : { credentials }),
    ...(region === undefined ? {} : { region }),
    ...(transports === undefined ? {} : { transports }),
    ...(pull === undefined ? {} : { pull }),
    ...(wait === undefined ? {} : { wait }),
    platform: parsePlatform(options.platform ?? hostPlatform()),
    registry,
  };
}

/** Go's names of what Node calls otherwise. */
function hostPlatform(): string {
  const names: Record<string, string> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le' };
  return `linux/${names[process.arch] ?? process.arch}`;
}

const collect = (value: string, values: string[] = []) => [...values, value];

function parseTransports(text: string): TransportKind[] {
  const kinds = text.split(',');
  const isKind = (kind: string): kind is TransportKind => ['smb', 'https', 'blob'].includes(kind);
  if (!kinds.every(isKind)) throw new InvalidArgumentError('write a list of smb, https and blob.');
  return kinds;
}

function durationOption(text: string): number {
  const value = parseDuration(text);
  if (value === undefined) throw new InvalidArgumentError('write a time such as 90s or 10m.');
  return value;
}

function parseMirror(text: string, mirrors: Record<string, string[]> = {}): Record<string, string[]> {
  const [, registry = 'docker.io', url] = /^(?:([^=/?]+)=)?(.+)$/.exec(text) ?? [];
  if (url === undefined) throw new InvalidArgumentError('write [REGISTRY=]URL.');
  return { ...mirrors, [registry]: [...(mirrors[registry] ?? []), url] };
}
