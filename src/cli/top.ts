/** `orca top`: what the mounts of the daemon do now. */
import type { Command } from 'commander';
import type { MountDetails } from '../daemon/api.js';
import type { DaemonClient } from '../daemon/client.js';
import { addDaemonOptions, type DaemonOptions, hostDaemon } from './daemon-options.js';
import { guarded } from './failure.js';
import { addLogOptions, applyLogOptions } from './options.js';
import { formatFrame, type Look, rowsOf } from './top-frame.js';

const PAUSE_MS = 1000;
/** Home, and nothing below the cursor; by ECMA-48. */
const CLEAR = '\u001b[H\u001b[J';

export function addTopCommand(program: Command): void {
  const command = program
    .command('top')
    .summary('watch the mounts')
    .description(
      'Shows, every second, how much each mount reads and fetches from which source, and how long reads wait.',
    )
    .option('--once', 'print one frame, of one second')
    .option('--json', 'print each frame as a line of JSON');
  addDaemonOptions(command);
  addLogOptions(command);
  command.action(
    guarded(async (options: DaemonOptions & { once?: boolean; json?: boolean }) => {
      await applyLogOptions(command, 'info');
      const client = await hostDaemon(command, options);
      const live = !options.once && !options.json;
      for (let before = await look(client); ; ) {
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
        const now = await look(client);
        const rows = rowsOf(before, now);
        const text = options.json
          ? `${JSON.stringify({ time: now.time, mounts: rows })}\n`
          : formatFrame(rows);
        process.stdout.write(live ? CLEAR + text : text);
        if (options.once) return;
        before = now;
      }
    }),
  );
}

async function look(client: DaemonClient): Promise<Look> {
  const { DaemonError } = await import('../daemon/daemon-error.js');
  const mounts: MountDetails[] = [];
  for (const { id } of await client.mounts()) {
    try {
      mounts.push(await client.mount(id));
    } catch (error) {
      // It has been unmounted meanwhile.
      if (!(error instanceof DaemonError) || error.code !== 'NOT_FOUND') throw error;
    }
  }
  return { time: Date.now(), mounts };
}
