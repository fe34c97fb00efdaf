/** `orca expand`: an image into a store. */
import type { Command } from 'commander';
import type { LayerProgress } from '../image/store.js';
import { RuntimeError } from '../runtime/runtime-error.js';
import { guarded } from './failure.js';
import { addLogOptions, applyLogOptions, requireStore, storeOption } from './options.js';
import { formatBytes, Progress } from './progress.js';

interface ExpandOptions {
  store?: string;
  name?: string;
}

const VHD_INPUT = 'vhd:';

export function addExpandCommand(program: Command): void {
  const command = program
    .command('expand')
    .summary('expand an image into a store')
    .description(
      'Expands every layer of an image into a layer VHD, merges them into an image index, and prints the digest.',
    )
    .argument(
      '<image>',
      'oci:DIR[:TAG] | oci-archive:FILE | docker-archive:FILE | vhd:FILE[,FILE…] (lowest layer first)',
    )
    .addOption(storeOption('directory of the store, made if it is missing'))
    .option('--name <name[:tag]>', 'name in the store (default: the name that the input has)');
  addLogOptions(command);
  command.action(
    guarded(async (image: string, options: ExpandOptions) => {
      await applyLogOptions(command, 'info');
      const { Interruption } = await import('../runtime/interruption.js');
      const interruption = new Interruption();
      const progress = new Progress();
      try {
        const { signal } = interruption;
        const digest = await expand(image, requireStore(options), signal, (layer) =>
          show(progress, layer),
        ).finally(() => progress.end());
        process.stdout.write(`${digest}\n`);
      } finally {
        interruption.close();
      }
    }),
  );
}

async function expand(
  image: string,
  { store: directory, name }: ExpandOptions & { store: string },
  signal: AbortSignal,
  onProgress: (layer: LayerProgress) => void,
): Promise<string> {
  const [{ Store }, { openImageInput }] = await Promise.all([
    import('../image/store.js'),
    import('../oci/image-input.js'),
  ]);
  if (image.startsWith(VHD_INPUT)) {
    if (name === undefined) throw new RuntimeError('INVALID_OPTION', 'layer VHDs have no name: give --name');
    const store = await Store.open(storePath(directory), { create: true });
    const paths = image.slice(VHD_INPUT.length).split(',');
    return (await store.importVhds(paths, { name, signal, onProgress })).manifestDigest;
  }
  const input = await openImageInput(image);
  try {
    const store = await Store.open(storePath(directory), { create: true });
    const options = { signal, onProgress, ...(name === undefined ? {} : { name }) };
    return (await store.expand(input, options)).manifestDigest;
  } finally {
    await input.close();
  }
}

/** A store is written where its directory is, never through a share. */
function storePath(store: string): string {
  if (/^smb:/i.test(store)) {
    throw new RuntimeError(
      'INVALID_OPTION',
      'orca expand writes into a directory: run it where the directory of the share is, with --store DIR',
    );
  }
  return store.replace(/^file:(?:\/\/(?=\/))?/, '');
}

function show(progress: Progress, layer: LayerProgress): void {
  const { state, bytesIn, bytesOut, total } = layer;
  const finished = state === 'expanded' || state === 'reused';
  progress.update(layer.layer, {
    label: `layer ${layer.layer.slice('sha256:'.length, 'sha256:'.length + 12)}`,
    done: bytesIn,
    total,
    finished,
    ...(state === 'reused' ? { note: 'in the store already' } : {}),
    ...(state === 'expanded' ? { note: `${formatBytes(total)} expanded to ${formatBytes(bytesOut)}` } : {}),
  });
}
