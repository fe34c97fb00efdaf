/** `orca registry`: serves the distribution API from a data directory. */
import { readFile } from 'node:fs/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { ExpansionOptions } from '../registry/expansion/service.js';
import type { RegistryOptions } from '../registry/registry.js';
import { RuntimeError } from '../runtime/runtime-error.js';
import { guarded } from './failure.js';
import { addLogOptions, applyLogOptions } from './options.js';
import { addRegistryExpandCommand } from './registry-expand.js';
import { addSambaCommand } from './registry-samba.js';

interface RegistryCommandOptions {
  data?: string;
  listen: string;
  metrics?: string;
  tlsCert?: string;
  tlsKey?: string;
  users?: string;
  publicUrl?: string;
  region?: string;
  upstream?: string;
  upstreamCa?: string;
  upstreamInsecure?: boolean;
  upstreamCredentials?: string;
  notificationsTokenFile?: string;
  share?: string;
  shareDir?: string;
  requireRegion?: boolean;
  teleportDefault: 'on' | 'off';
  workers?: number;
  workerMemory?: number;
  webhook?: string;
  webhookSecretFile?: string;
}

export function addRegistryCommand(program: Command): void {
  const command = program
    .command('registry')
    .summary('serve a registry')
    .description(
      'Serves the OCI distribution API from a data directory, until SIGTERM or SIGINT. Prints its URL when it listens.',
    )
    .option('--data <dir>', 'data directory, made if it is missing')
    .option('--listen <host:port>', 'address to listen on', '127.0.0.1:5000')
    .option(
      '--metrics <host:port>',
      'serve GET /metrics for Prometheus there; numbers only, to whoever connects',
    )
    .option('--tls-cert <file>', 'certificate chain (PEM); read again on SIGHUP')
    .option('--tls-key <file>', 'its private key (PEM)')
    .option('--users <file>', 'users and what they may do; without it, everybody may do everything')
    .option('--public-url <url>', 'how clients reach it through a proxy, such as https://registry.example')
    .option('--region <name>', 'where this registry is')
    .option('--require-region', 'take clients that do not say where they are for clients of another region')
    .option(
      '--share <url>',
      'smb://HOST[:PORT]/PREFIX of the shares that an smbd serves (orca registry samba)',
    )
    .option('--share-dir <dir>', 'where that smbd finds the folder shares/ of the data directory')
    .enablePositionalOptions()
    .option('--upstream <url>', 'be a gateway before this registry')
    .option('--upstream-ca <file>', 'CA of the upstream registry (PEM)')
    .option('--upstream-insecure', 'accept any certificate of the upstream registry')
    .option('--upstream-credentials <file>', 'NAME:PASSWORD, to read from the upstream what is expanded')
    .option('--notifications-token-file <file>', 'secret of the registry that sends POST /notifications')
    .addOption(
      new Option('--teleport-default <on|off>', 'whether repositories are expanded that do not say')
        .choices(['on', 'off'])
        .default('on'),
    )
    .addOption(
      new Option('--workers <n>', 'threads that expand layers; default: one per processor').argParser(
        parseCount,
      ),
    )
    .addOption(
      new Option('--worker-memory <MiB>', 'script heap that each of them may have').argParser(parseCount),
    )
    .option('--webhook <url>', 'is told what has been expanded or has failed')
    .option('--webhook-secret-file <file>', 'key of the signature of what it is told');
  addLogOptions(command);
  addRegistryExpandCommand(command);
  addSambaCommand(command);
  command.action(
    guarded(async (options: RegistryCommandOptions) => {
      await applyLogOptions(command, 'info');
      const { parseListenAddress, serveRegistry } = await import('../registry/serve.js');
      const { data, listen, metrics, tlsCert, tlsKey, users, publicUrl, region, teleportDefault } = options;
      if (data === undefined)
        throw new RuntimeError('INVALID_OPTION', 'no data directory is named: give --data');
      if ((tlsCert === undefined) !== (tlsKey === undefined)) {
        throw new RuntimeError('INVALID_OPTION', 'give both --tls-cert and --tls-key, or neither');
      }
      const print = (url: string) => void process.stdout.write(`${url}\n`);
      await serveRegistry(
        {
          data,
          ...parseListenAddress(listen),
          ...(metrics === undefined ? {} : { metrics: parseListenAddress(metrics, '--metrics') }),
          ...(tlsCert === undefined || tlsKey === undefined ? {} : { tls: { cert: tlsCert, key: tlsKey } }),
          ...(users === undefined ? {} : { users }),
          ...(publicUrl === undefined ? {} : { publicUrl }),
          ...(region === undefined ? {} : { region }),
          ...upstreamOptions(options),
          ...shareOptions(options),
          teleportDefault: teleportDefault === 'on',
          expansion: await expansionOptions(options),
        },
        print,
      );
    }),
  );
}

function shareOptions({
  share,
  shareDir,
  requireRegion,
}: RegistryCommandOptions): Pick<RegistryOptions, 'share' | 'requireRegion'> {
  if (share === undefined && shareDir !== undefined) {
    throw new RuntimeError('INVALID_OPTION', '--share-dir needs the shares: give --share');
  }
  return {
    ...(share === undefined
      ? {}
      : { share: { url: share, ...(shareDir === undefined ? {} : { directory: shareDir }) } }),
    ...(requireRegion === undefined ? {} : { requireRegion }),
  };
}

function upstreamOptions({
  upstream,
  upstreamCa,
  upstreamInsecure,
  upstreamCredentials,
  notificationsTokenFile,
}: RegistryCommandOptions): Pick<RegistryOptions, 'upstream' | 'notificationsToken'> {
  const others = [upstreamCa, upstreamInsecure, upstreamCredentials, notificationsTokenFile];
  if (upstream === undefined) {
    if (others.every((other) => other === undefined)) return {};
    throw new RuntimeError(
      'INVALID_OPTION',
      'options of a gateway need the registry behind it: give --upstream',
    );
  }
  return {
    upstream: {
      url: upstream,
      ...(upstreamCa === undefined ? {} : { caFile: upstreamCa }),
      ...(upstreamInsecure === undefined ? {} : { insecure: upstreamInsecure }),
      ...(upstreamCredentials === undefined ? {} : { credentials: upstreamCredentials }),
    },
    ...(notificationsTokenFile === undefined ? {} : { notificationsToken: notificationsTokenFile }),
  };
}

async function expansionOptions(options: RegistryCommandOptions): Promise<ExpansionOptions> {
  const { workers, workerMemory, webhook, webhookSecretFile } = options;
  if ((webhook === undefined) !== (webhookSecretFile === undefined)) {
    throw new RuntimeError('INVALID_OPTION', 'give both --webhook and --webhook-secret-file, or neither');
  }
  return {
    ...(workers === undefined ? {} : { workers }),
    ...(workerMemory === undefined ? {} : { workerMemory }),
    ...(webhook === undefined || webhookSecretFile === undefined
      ? {}
      : { webhook: { url: webhook, secret: (await readFile(webhookSecretFile, 'utf8')).trimEnd() } }),
  };
}

function parseCount(text: string): number {
  if (!/^[1-9][0-9]{0,5}$/.test(text)) throw new InvalidArgumentError('write a whole number above zero.');
  return Number(text);
}
