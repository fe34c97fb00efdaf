/** `orca stat`: one mount in detail, or the daemon and its cache. */
import type { Command } from 'commander';
import type { DaemonClient } from '../daemon/client.js';
import { addDaemonOptions, type DaemonOptions, hostDaemon } from './daemon-options.js';
import { guarded } from './failure.js';
import { addLogOptions, applyLogOptions } from './options.js';
import { formatBytes } from './progress.js';
import { formatTable } from './table.js';
import { formatAge, formatPercent } from './units.js';

export function addStatCommand(program: Command): void {
  const command = program
    .command('stat')
    .summary('what the daemon, or one mount, has done')
    .description('Shows the daemon and its cache; or one mount, by its mount point or the start of its id.')
    .argument('[mount]', 'mount point or id')
    .option('--json', 'as JSON');
  addDaemonOptions(command);
  addLogOptions(command);
  command.action(
    guarded(async (mount: string | undefined, options: DaemonOptions & { json?: boolean }) => {
      await applyLogOptions(command, 'info');
      const client = await hostDaemon(command, options);
      const { value, text } = mount === undefined ? await daemonStat(client) : await mountStat(client, mount);
      process.stdout.write(options.json ? `${JSON.stringify(value, undefined, 2)}\n` : text);
    }),
  );
}

async function daemonStat(client: DaemonClient): Promise<{ value: object; text: string }> {
  const { DaemonError } = await import('../daemon/daemon-error.js');
  const daemon = await client.ping();
  if (daemon === undefined) throw new DaemonError('NOT_RUNNING', `no daemon listens at ${client.socket}`);
  const cache = await client.cache();
  const text = formatTable([
    ['daemon', `orca ${daemon.version}, pid ${daemon.pid}, ${formatAge(Date.now() - daemon.startedAt)} old`],
    [
      'crash of the daemon',
      daemon.supervised ? 'mounts go on' : 'ends the mounts: it has no supervisor (see its log)',
    ],
    ['mounts', String(daemon.mounts)],
    ['memory', formatBytes(daemon.residentBytes)],
    ['cache', `${cache.directory}, ${formatBytes(cache.used)} of ${formatBytes(cache.limit)}`],
    ['fetched', `${formatBytes(cache.bytesFetched)} in ${cache.blocksFetched} blocks`],
    ['evicted', formatBytes(cache.bytesEvicted)],
    ['corrupt, failed', `${cache.blocksCorrupt}, ${cache.blocksFailed} blocks`],
  ]);
  return { value: { daemon, cache }, text };
}

async function mountStat(client: DaemonClient, name: string): Promise<{ value: object; text: string }> {
  const { DaemonError } = await import('../daemon/daemon-error.js');
  const { resolve } = await import('node:path');
  const found = (await client.mounts()).filter(
    ({ id, mountpoint }) => id.startsWith(name) || mountpoint === resolve(name),
  );
  const [only] = found;
  if (only === undefined || found.length > 1) {
    throw new DaemonError('NOT_FOUND', `${found.length} mounts are meant by ${name}: see orca ps`);
  }
  const details = await client.mount(only.id);
  const layers = details.perLayer.flatMap(({ diffID, blocks, blocksPresent, sources }) =>
    sources.map(({ location, bytes, healthy, problem }) => [
      diffID.slice(0, 19),
      `${blocksPresent}/${blocks}`,
      location,
      formatBytes(bytes),
      healthy ? (problem ?? '') : `failing: ${problem ?? 'unknown'}`,
    ]),
  );
  const requests = Object.entries(details.requests).map(([name, count]) => `${name} ${count}`);
  const text =
    formatTable([
      ['image', `${details.image} (${details.manifestDigest})`],
      ['mounted at', details.mountpoint],
      ['source', details.problem ?? details.served],
      ...details.passedOver.map(({ kind, reason }) => [`not by ${kind}`, reason]),
      ['reads at once', formatPercent(details.hitRatio)],
      ['bytes read', formatBytes(details.bytesRead)],
      ['requests', requests.join(', ')],
    ]) + formatTable([['LAYER', 'BLOCKS', 'SOURCE', 'FETCHED', 'PROBLEM'], ...layers]);
  return { value: details, text };
}
