/** `orca doctor`: what is wrong with this host, and what to do about it. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { addSocketOption } from './daemon-options.js';
import { EXIT_FAILURE, guarded } from './failure.js';
import { addImageOptions, IMAGE_ARGUMENT, type ImageOptions, imageRequestOf } from './image-options.js';
import { addLogOptions, applyLogOptions, configured, runDirectoryOption } from './options.js';
import { formatTable } from './table.js';

interface DoctorOptions extends ImageOptions {
  runDir: string;
  socket?: string;
  json?: boolean;
}

export function addDoctorCommand(program: Command): void {
  const command = program
    .command('doctor')
    .summary('find out why something does not work')
    .description(
      'Looks at kernel, devices, programs, directories and daemon of this host, and with --store or an image at the\n' +
        'share or the registry, logging in as a mount would. Changes nothing. Ends with 1 when a problem would keep\n' +
        'orca run from working.',
    )
    .argument('[image]', IMAGE_ARGUMENT)
    .option('--json', 'as JSON')
    .addOption(runDirectoryOption());
  addImageOptions(command);
  addSocketOption(command);
  addLogOptions(command);
  command.action(
    guarded(async (image: string | undefined, options: DoctorOptions) => {
      await applyLogOptions(command, 'error');
      const [{ examine }, { socketOf }, settings] = await Promise.all([
        import('../doctor/doctor.js'),
        import('../daemon/start.js'),
        configured(command, options),
      ]);
      const runDirectory = resolve(settings.runDir);
      const findings = await examine({
        version: program.version() ?? '',
        cache: resolve(settings.cache),
        cacheSize: settings.cacheSize,
        runDirectory,
        socket: settings.socket === undefined ? socketOf(runDirectory) : resolve(settings.socket),
        request: await imageRequestOf(image ?? '', settings),
      });
      const rows = findings.map(({ state, name, text, remedy }) => [
        state,
        name,
        remedy === undefined ? text : `${text}; ${remedy}`,
      ]);
      process.stdout.write(options.json ? `${JSON.stringify(findings, undefined, 2)}\n` : formatTable(rows));
      if (findings.some(({ state }) => state === 'problem')) process.exitCode = EXIT_FAILURE;
    }),
  );
}
