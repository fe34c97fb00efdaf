/** `orca daemon`: the host daemon under its supervisor, in the foreground; or its replacement, or its end. */
import { type Command, Option } from 'commander';
import { counted } from '../counted.js';
import { addDaemonPlace, type DaemonOptions, daemonPlace } from './daemon-options.js';
import { guarded } from './failure.js';
import { addLogOptions, applyLogOptions, logOptionsOf } from './options.js';

interface DaemonCommandOptions extends DaemonOptions {
  replace?: boolean;
  stop?: boolean;
  force?: boolean;
  detach?: boolean;
  http?: string;
}

const ANSWER_POLL_MS = 20;
const REPLACE_MS = 30_000;

export function addDaemonCommand(program: Command): void {
  const command = program
    .command('daemon')
    .summary('serve mounts for all commands of this host')
    .description(
      'Serves mounts and the block cache until SIGTERM, restarted by a supervisor when it dies; its mounts outlive that.',
    )
    .option('--detach', 'return when it answers')
    .option('--replace', 'the daemon that runs becomes this version, and its mounts go on')
    .option('--stop', 'end the daemon that runs')
    .option('--force', 'with --stop: also when mounts are there, which end');
  command.addOption(
    new Option('--http <address>', 'serve a page that draws the mounts, and metrics, at 127.0.0.1:PORT').env(
      'ORCA_HTTP',
    ),
  );
  addDaemonPlace(command);
  addLogOptions(command);
  command.action(
    guarded(async (options: DaemonCommandOptions) => {
      await applyLogOptions(command, 'info');
      const [{ DaemonClient }, start] = await Promise.all([
        import('../daemon/client.js'),
        import('../daemon/start.js'),
      ]);
      const { http } = options;
      if (http !== undefined) (await import('../daemon/http.js')).parseHttpAddress(http);
      const place = { ...(await daemonPlace(command, options)), ...logOptionsOf(command, 'info'), http };
      const client = new DaemonClient(place.socket);
      if (options.stop) return await client.shutDown(options.force ?? false);
      if (options.replace) return await replace(client, start.daemonCommand(place));
      if (options.detach) return await start.ensureDaemon(place);
      const [{ execute }, { keepOverExec, takeDescriptors }] = await Promise.all([
        import('../native/supervision.js'),
        import('../daemon/descriptors.js'),
      ]);
      const passed = takeDescriptors();
      // Under systemd, with its socket unit: that takes the supervisor's part.
      const underSystemd = passed.length > 0;
      const [program = '', ...args] = underSystemd
        ? start.daemonCommand(place)
        : start.supervisorCommand(place);
      const kept = underSystemd ? { ORCA_KEPT: keepOverExec(passed) } : {};
      execute(program, [program, ...args], { ...process.env, ...kept });
    }),
  );
}

async function replace(
  client: import('../daemon/client.js').DaemonClient,
  order: readonly string[],
): Promise<void> {
  const { DaemonError } = await import('../daemon/daemon-error.js');
  const before = await client.ping();
  if (before === undefined) {
    throw new DaemonError(
      'NOT_RUNNING',
      `no daemon listens at ${client.socket}: there is nothing to replace`,
    );
  }
  await client.replace(order);
  for (const deadline = Date.now() + REPLACE_MS; Date.now() < deadline; ) {
    const now = await client.ping();
    if (now !== undefined && now.startedAt !== before.startedAt) {
      const { version, mounts, adoption } = now;
      process.stdout.write(
        `orca ${version} serves ${counted(mounts, 'mount')}, ${adoption.milliseconds} ms after its start\n`,
      );
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, ANSWER_POLL_MS));
  }
  throw new DaemonError('NO_ANSWER', 'the daemon was not replaced: its log says why');
}
