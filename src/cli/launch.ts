/** `orca run` as native/launcher asks the daemon for it: the daemon prepares the container, the launcher runs it. */
import { basename, join, resolve } from 'node:path';
import { Command } from 'commander';
import type { Daemon } from '../daemon/daemon.js';
import {
  formatLaunchAnswer,
  type LaunchAnswer,
  type LaunchRequest,
  parseLaunchEnd,
  parseLaunchRequest,
} from '../daemon/launch-format.js';
import { orderOf } from '../daemon/order.js';
import { packageVersion } from '../installation.js';
import { surprises } from '../mount/source-choice.js';
import { PreparedContainer, removePreparedContainer } from '../runtime/container.js';
import { checkStarted } from '../runtime/runc.js';
import { formatText, type LogFields, type Logger, log } from '../telemetry/logger.js';
import { describeFailure, ownExitCode } from './failure.js';
import { imageRequestOf } from './image-options.js';
import { mountSettingsOf } from './mount-options.js';
import { configured } from './options.js';
import { declareRun, type RunCommandOptions, runFailureCode, runOptionsOf } from './run.js';

interface ParsedRun {
  image: string;
  args: string[];
  options: RunCommandOptions;
}

/** A startup profile is replayed when the container is prepared, which is a matter of milliseconds, or after so many. */
const PREPARED_MS = 1000;

const version = packageVersion();

/** Answers POST /v1/launch. Throws DaemonError INVALID_REQUEST; all other failures are in the answer. */
export async function launch(daemon: Daemon, body: Buffer, signal: AbortSignal): Promise<Buffer> {
  const request = parseLaunchRequest(body);
  const { runDirectory, cache, fileTree } = daemon.ping();
  // What is left to node, which says why, or starts a daemon of its own directories.
  if (request.version !== version || request.fileTree !== fileTree)
    return formatLaunchAnswer({ kind: 'decline' });
  const run = await parse(request).catch(() => undefined);
  if (
    run === undefined ||
    run.options.daemon === false ||
    resolve(request.directory, run.options.runDir) !== runDirectory ||
    resolve(request.directory, run.options.cache) !== cache
  ) {
    return formatLaunchAnswer({ kind: 'decline' });
  }
  return formatLaunchAnswer(await prepare(daemon, request, run, runDirectory, signal));
}

/** Answers POST /v1/launch/ID/end. */
export async function endLaunch(daemon: Daemon, id: string, body: Buffer): Promise<Buffer> {
  const exitCode = parseLaunchEnd(body);
  const { runDirectory } = daemon.ping();
  let answer: LaunchAnswer = { kind: 'end', exitCode, text: '' };
  try {
    if (exitCode !== 0) await checkStarted(join(runDirectory, 'containers', id));
  } catch (error) {
    answer = { kind: 'end', ...failure(error) };
  }
  await removePreparedContainer(runDirectory, id, (directory) => daemon.mounts.removeBelow(directory)).catch(
    (error: Error) => log.warn(`container ${id} cannot be removed, trying again later`, { error }),
  );
  return formatLaunchAnswer(answer);
}

async function prepare(
  daemon: Daemon,
  request: LaunchRequest,
  { image, args, options }: ParsedRun,
  runDirectory: string,
  signal: AbortSignal,
): Promise<LaunchAnswer> {
  const { directory, environment, openFiles, terminals, consoleSize } = request;
  const said = new Said();
  try {
    daemon.checkOpen();
    const container = await runOptionsOf(options, args, directory);
    const order = {
      ...orderOf(await imageRequestOf(image, options), { directory, environment }),
      ...mountSettingsOf(options),
      replayAfter: PREPARED_MS,
    };
    const prepared = await PreparedContainer.prepare(
      {
        runDirectory,
        options: container,
        caller: { environment, openFiles, terminals, ...(terminals[1] && { consoleSize }) },
        lock: join(runDirectory, 'launch', request.lock),
        mountImage: async (mountpoint, aborted) => {
          const bundle = join(mountpoint, '..');
          const id = basename(bundle);
          const mounted = { ...order, mountpoint, container: bundle };
          const info = await daemon.mounts.create(id, mounted, aborted, said.logger);
          for (const { kind, reason } of surprises(info.passedOver))
            said.logger.warn(`${info.image} is not served by ${kind}: ${reason}`);
          return { config: info.config, unmount: () => daemon.mounts.removeBelow(bundle) };
        },
      },
      signal,
    );
    daemon.mounts.replay(prepared.id);
    return {
      kind: 'run',
      text: said.text,
      ...{ id: prepared.id, directory: prepared.directory },
      ...{ stdin: container.interactive, terminal: container.terminal },
      command: prepared.runc.command(prepared.id, prepared.directory),
    };
  } catch (error) {
    const { exitCode, text } = failure(error);
    return { kind: 'fail', exitCode, text: said.text + text };
  }
}

/** As `orca run` understands it. Throws for whatever is not the plain case: node then says what is wrong with it. */
async function parse({ words, directory, environment }: LaunchRequest): Promise<ParsedRun> {
  const program = new Command('orca')
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({ writeOut: () => undefined, writeErr: () => undefined });
  let parsed: ParsedRun | undefined;
  const command = declareRun(program);
  command
    .copyInheritedSettings(program)
    .action((image: string, args: string[], options: RunCommandOptions) => {
      parsed = { image, args, options };
    });
  withEnvironment(environment, () => program.parse(words, { from: 'user' }));
  if (parsed === undefined) throw new Error('nothing to run');
  const elsewhere = ['socket', 'logLevel', 'logFormat'].find(
    (name) => command.getOptionValueSource(name) === 'cli',
  );
  if (elsewhere !== undefined) throw new Error(`${elsewhere} is not for this daemon`);
  const { config } = parsed.options;
  const options = { ...parsed.options, ...(config !== undefined && { config: resolve(directory, config) }) };
  return { ...parsed, options: await configured(command, options) };
}

/** Commander looks for variables in process.env alone; nothing else runs meanwhile. */
function withEnvironment(environment: Record<string, string>, action: () => void): void {
  const own = process.env;
  process.env = environment;
  try {
    action();
  } finally {
    process.env = own;
  }
}

function failure(error: unknown): { exitCode: number; text: string } {
  const text = formatText('error', describeFailure(error), {});
  return { exitCode: ownExitCode(error) ?? runFailureCode(error), text };
}

/** What `orca run` would have written to stderr: warnings. The daemon's own log has them, too. */
class Said {
  text = '';
  readonly logger: Logger = {
    debug: log.debug,
    info: log.info,
    warn: (message, fields) => this.#say('warn', message, fields),
    error: (message, fields) => this.#say('error', message, fields),
  };

  #say(level: 'warn' | 'error', message: string, fields: LogFields = {}): void {
    log[level](message, fields);
    if (this.text.length < 1 << 16) this.text += formatText(level, message, fields);
  }
}
