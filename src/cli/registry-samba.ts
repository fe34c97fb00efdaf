/** `orca registry samba`: what an smbd needs that serves the shares of a registry. */
import type { Command } from 'commander';
import { RuntimeError } from '../runtime/runtime-error.js';
import { guarded } from './failure.js';
import { addLogOptions, applyLogOptions } from './options.js';

interface SambaCommandOptions {
  data?: string;
  output?: string;
  port: string;
  listen?: string[];
  rotate?: string | true;
}

export function addSambaCommand(registry: Command): void {
  const command = registry
    .command('samba')
    .summary('write the configuration of the smbd that serves the shares')
    .description(
      'Writes smb.conf and a script that starts smbd with it, for the shares of all repositories, those to come ' +
        'included. Prints the path of the script.',
    )
    .option('--data <dir>', 'data directory of the registry')
    .option('--output <file>', 'where the configuration goes; default samba/smb.conf in the data directory')
    .option('--port <number>', 'port of smbd', '445')
    .option('--listen <address...>', 'addresses that smbd listens on; default all')
    .option(
      '--rotate [repository]',
      'give the share of a repository, or all shares, new passwords, and nothing else',
    );
  addLogOptions(command);
  command.action(
    guarded(async ({ data, output, port, listen, rotate }: SambaCommandOptions) => {
      await applyLogOptions(command, 'info');
      if (data === undefined)
        throw new RuntimeError('INVALID_OPTION', 'no data directory is named: give --data');
      const { writeSambaConfig, rotatePasswords } = await import('../registry/samba-config.js');
      if (rotate !== undefined) {
        const rotated = await rotatePasswords(data, rotate === true ? undefined : rotate);
        for (const repository of rotated) process.stdout.write(`${repository}\n`);
        return;
      }
      const { start } = await writeSambaConfig({
        data,
        port: parsePort(port),
        ...(output === undefined ? {} : { output }),
        ...(listen === undefined ? {} : { addresses: listen }),
      });
      process.stdout.write(`${start}\n`);
    }),
  );
}

function parsePort(text: string): number {
  const port = Number(text);
  if (/^\d{1,5}$/.test(text) && port >= 1 && port <= 65_535) return port;
  throw new RuntimeError('INVALID_OPTION', `--port ${text}: not a port`);
}
