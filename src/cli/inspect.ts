/** `orca inspect`: what an image of a store consists of. */
import type { Command } from 'commander';
import { guarded } from './failure.js';
import {
  addLogOptions,
  addSourceOptions,
  applyLogOptions,
  configured,
  requireStore,
  type SourceOptions,
} from './options.js';
import { formatBytes } from './progress.js';
import { formatTable } from './table.js';

interface InspectOptions extends SourceOptions {
  json?: boolean;
  path?: string;
}

export function addInspectCommand(program: Command): void {
  const command = program
    .command('inspect')
    .summary('show layers, sizes and extents of an image')
    .description('Shows what an image of a store consists of, or where the bytes of one of its files are.')
    .argument('<image>', 'NAME[:TAG] or sha256:… in the store')
    .option('--json', 'print JSON')
    .option('--path <path>', 'show one path of the image: attributes and extents');
  addSourceOptions(command);
  addLogOptions(command);
  command.action(
    guarded(async (name: string, options: InspectOptions) => {
      await applyLogOptions(command, 'info');
      const { inspectImage, inspectPath } = await import('../runtime/inspection.js');
      const request = { ...requireStore(await configured(command, options)), image: name };
      const result =
        options.path === undefined ? await inspectImage(request) : await inspectPath(request, options.path);
      if (options.json) process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`);
      else if ('layers' in result) printImage(result);
      else printPath(result);
    }),
  );
}

type ImageInspection = Awaited<ReturnType<typeof import('../runtime/inspection.js').inspectImage>>;
type PathInspection = Awaited<ReturnType<typeof import('../runtime/inspection.js').inspectPath>>;

function printImage(image: ImageInspection): void {
  const { platform, process: config } = image.config;
  const command = [...(config.entrypoint ?? []), ...(config.cmd ?? [])];
  const inodes = Object.entries(image.inodes).filter(([, count]) => count > 0);
  print([
    ['name', image.name],
    ['digest', image.manifestDigest],
    ['platform', `${platform.os}/${platform.architecture}`],
    ['command', command.map((word) => JSON.stringify(word)).join(' ')],
    ['user', config.user ?? 'root'],
    ['index', formatBytes(image.indexBytes)],
    ['inodes', inodes.map(([kind, count]) => `${count} ${kind}`).join(', ')],
  ]);
  const rows = image.layers.map((layer) => [
    layer.diffID,
    formatBytes(layer.blobBytes),
    formatBytes(layer.vhdBytes),
    formatBytes(layer.visibleBytes),
    String(layer.files),
  ]);
  print([[], ['layer (diffID)', 'blob', 'VHD', 'visible', 'files'], ...rows]);
}

function printPath(path: PathInspection): void {
  print([
    ['path', path.path],
    ['kind', path.kind],
    ['mode', path.mode],
    ['owner', `${path.uid}:${path.gid}`],
    ['mtime', path.mtime],
    ['links', String(path.nlink)],
    ['size', String(path.size)],
    ...(path.target === undefined ? [] : [['target', path.target]]),
    ...Object.entries(path.xattrs).map(([name, value]) => [name, `base64:${value}`]),
  ]);
  if (path.kind !== 'file') return;
  const rows = path.extents.map((extent) => [
    String(extent.fileOffset),
    String(extent.length),
    extent.layer?.diffID ?? 'hole',
    extent.layer === undefined ? '' : String(extent.layer.offset),
  ]);
  print([[], ['offset', 'length', 'layer (diffID)', 'at'], ...rows]);
}

function print(rows: string[][]): void {
  process.stdout.write(formatTable(rows));
}
