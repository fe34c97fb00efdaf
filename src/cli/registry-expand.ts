/** `orca registry expand`: has a running registry expand what it has already. */
import type { Command } from 'commander';
import { RuntimeError } from '../runtime/runtime-error.js';
import { guarded } from './failure.js';
import { addLogOptions, applyLogOptions } from './options.js';
import { formatBytes, Progress } from './progress.js';

interface ExpandOptions {
  registry: string;
  registryCa?: string;
  insecure?: boolean;
  wait?: boolean;
}

export function addRegistryExpandCommand(registry: Command): void {
  const command = registry
    .command('expand')
    .summary('expand images that a registry has already')
    .description(
      'Has a running registry expand an image, or all tagged images of a repository, and prints their digests.',
    )
    .argument('<repository>', 'REPOSITORY[:TAG|@DIGEST]')
    .option(
      '--registry <url>',
      'the registry; credentials are those of docker login',
      'http://127.0.0.1:5000',
    )
    .option('--registry-ca <file>', 'its CA (PEM)')
    .option('--insecure', 'accept any certificate')
    .option('--wait', 'until they are expanded; fails when one of them does');
  addLogOptions(command);
  command.action(
    guarded(async (target: string, { registry: url, registryCa, insecure, wait }: ExpandOptions) => {
      await applyLogOptions(command, 'info');
      const [{ ExpansionClient, parseTarget }, { Interruption }] = await Promise.all([
        import('../registry/expansion/expansion-client.js'),
        import('../runtime/interruption.js'),
      ]);
      const client = new ExpansionClient({
        url,
        ...parseTarget(target),
        client: {
          ...(registryCa === undefined ? {} : { caFile: registryCa }),
          ...(insecure ? { insecure: [new URL(url).host] } : {}),
        },
      });
      const interruption = new Interruption();
      const progress = new Progress();
      try {
        const images = await client.request(interruption.signal);
        const failures: string[] = [];
        for (const { digest, tags } of images) {
          process.stdout.write(`${[digest, ...tags].join(' ')}\n`);
          if (!wait) continue;
          const { state, reason } = await client.settled(
            digest,
            (layers) => {
              for (const { digest: layer, status, bytes = 0, total } of layers) {
                const finished = status === 'expanded' || status === 'failed';
                const note = status === 'expanded' ? `expanded to ${formatBytes(bytes)}` : status;
                const label = `layer ${layer.slice(7, 19)}`;
                progress.update(layer, { label, done: bytes, total, finished, ...(finished && { note }) });
              }
            },
            interruption.signal,
          );
          if (state === 'failed') failures.push(`${digest}: ${reason ?? 'it has failed'}`);
        }
        progress.end();
        if (failures.length > 0) throw new RuntimeError('EXPANSION_FAILED', failures.join('; '));
      } finally {
        progress.end();
        interruption.close();
        await client.close();
      }
    }),
  );
}
