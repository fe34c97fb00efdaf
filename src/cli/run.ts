/** `orca run`: a container from an image of a registry or a store, in the foreground. */
import { basename, dirname } from 'node:path';
import { type Command, Option } from 'commander';
import type { MountedImage, RunOptions } from '../runtime/container.js';
import { addDaemonChoice } from './daemon-options.js';
import { EXIT_RUN_FAILURE, reportFailure } from './failure.js';
import { addImageOptions, IMAGE_ARGUMENT, type ImageOptions, imageRequestOf } from './image-options.js';
import { addMountOptions, type MountOptions, mountSettingsOf } from './mount-options.js';
import { addLogOptions, applyLogOptions, configured, runDirectoryOption } from './options.js';

export interface RunCommandOptions extends ImageOptions, MountOptions {
  runDir: string;
  socket?: string;
  daemon?: boolean;
  config?: string;
  rm?: boolean;
  name?: string;
  env?: string[];
  volume?: string[];
  workdir?: string;
  user?: string;
  interactive?: boolean;
  tty?: boolean;
  readOnly?: boolean;
  net: 'host' | 'none';
}

const collect = (value: string, values: string[] = []) => [...values, value];

export function addRunCommand(program: Command): void {
  const command = declareRun(program);
  command.action(async (image: string, args: string[], options: RunCommandOptions) => {
    try {
      await applyLogOptions(command, 'warn');
      process.exitCode = await run(image, args, await configured(command, options));
    } catch (error) {
      process.exitCode = reportFailure(error, runFailureCode(error));
    }
  });
}

/** The exit codes that Docker gives failures of its own. */
export function runFailureCode(error: unknown): number {
  const codes: Record<string, number> = { NOT_EXECUTABLE: 126, COMMAND_NOT_FOUND: 127 };
  return codes[(error as { code?: string }).code ?? ''] ?? EXIT_RUN_FAILURE;
}

/** The command without its action. */
export function declareRun(program: Command): Command {
  const command = program
    .command('run')
    .summary('run a container')
    .description(
      'Mounts an image of a registry, or of a store, and runs a container from it, with Docker’s rules and exit codes:\n' +
        '125 for a failure of orca, 126 for a command that cannot be run, 127 for one that is not there.',
    )
    .argument('<image>', IMAGE_ARGUMENT)
    .argument('[command...]', 'in place of the image’s Cmd')
    .passThroughOptions()
    .option('--rm', 'accepted for docker’s sake: a container is always removed when it ends')
    .option('--name <name>', 'name of the container, unique among those that run')
    .option('-e, --env <K=V>', 'environment variable; K alone takes the value of this environment', collect)
    .option('-v, --volume <SRC:DST[:ro]>', 'file or directory of this host in the container', collect)
    .option('-w, --workdir <dir>', 'working directory in the container')
    .option('-u, --user <user[:group]>', 'names of the image or numbers')
    .option('-i, --interactive', 'pass stdin on')
    .option('-t, --tty', 'give the container a terminal')
    .option('--read-only', 'make the root file system read-only')
    .addOption(
      new Option('--net <network>', 'network of the container').choices(['host', 'none']).default('host'),
    )
    .addOption(runDirectoryOption());
  addImageOptions(command);
  addMountOptions(command);
  addDaemonChoice(command);
  addLogOptions(command);
  return command;
}

/** What a container is to be like. `directory` is what relative paths start from. */
export async function runOptionsOf(
  options: RunCommandOptions,
  args: readonly string[],
  directory: string,
): Promise<RunOptions> {
  const { parseVolume } = await import('../runtime/volume.js');
  return {
    name: options.name,
    command: args,
    environment: options.env ?? [],
    volumes: (options.volume ?? []).map((volume) => parseVolume(volume, directory)),
    workingDirectory: options.workdir,
    user: options.user,
    interactive: options.interactive ?? false,
    terminal: options.tty ?? false,
    readOnly: options.readOnly ?? false,
    network: options.net,
  };
}

async function run(image: string, args: string[], options: RunCommandOptions): Promise<number> {
  const [{ runContainer }, { chosenDaemon, mountByDaemon }] = await Promise.all([
    import('../runtime/container.js'),
    import('./daemon-mount.js'),
  ]);
  const { cache, cacheSize } = options;
  const [container, source, daemon] = await Promise.all([
    runOptionsOf(options, args, process.cwd()),
    imageRequestOf(image, options),
    chosenDaemon(options),
  ]);
  const request = { ...source, ...mountSettingsOf(options) };
  const mountImage = async (mountpoint: string, signal: AbortSignal): Promise<MountedImage> => {
    if (daemon === undefined) {
      const { mountRequested } = await import('../mount/image-mount.js');
      return mountRequested({ ...request, cache, cacheSize, mountpoint }, signal);
    }
    // A container's directory is named by its id.
    const container = dirname(mountpoint);
    const id = basename(container);
    const { config } = await mountByDaemon(daemon, id, { ...request, mountpoint, container }, signal);
    return { config, unmount: () => daemon.removeMount(id, { force: true }) };
  };
  return await runContainer({ runDirectory: options.runDir, options: container, mountImage });
}
