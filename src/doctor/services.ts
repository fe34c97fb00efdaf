/** The daemon and the snapshotter of this host, as far as they run. */

import { existsSync } from 'node:fs';
import { counted } from '../counted.js';
import { DaemonClient } from '../daemon/client.js';
import { connectionRefusal } from '../runtime/unix-socket.js';
import { type Finding, ok, warning } from './finding.js';

const ANSWER_MS = 5000;

/** `version` is that of this command. A daemon is not needed, but one that is there should be well. */
export async function checkDaemon(socket: string, version: string, cache: string): Promise<Finding> {
  const name = 'daemon';
  try {
    const answer = await new DaemonClient(socket).ping();
    if (answer === undefined) {
      if (!existsSync(socket)) return ok(name, 'none runs: each command serves its own mounts');
      return warning(name, `nobody listens at ${socket}`, 'start it: orca daemon, or systemctl start orca');
    }
    const text = `orca ${answer.version}, pid ${answer.pid}, ${counted(answer.mounts, 'mount')}`;
    if (!answer.supervised)
      return warning(name, `${text}; a crash ends its mounts`, 'start it by orca daemon or systemd');
    if (answer.version !== version)
      return warning(name, `${text}; this command is ${version}`, 'orca daemon --replace');
    if (answer.cache !== cache)
      return warning(name, `${text}; its cache is ${answer.cache}`, `give --cache ${answer.cache}`);
    return ok(name, text);
  } catch (error) {
    return warning(name, (error as Error).message, 'look into its log, or use --no-daemon');
  }
}

/** Undefined where none was ever started. */
export async function checkSnapshotter(path = '/run/orca/snapshotter.sock'): Promise<Finding | undefined> {
  if (!existsSync(path)) return undefined;
  const refusal = await connectionRefusal(path, ANSWER_MS);
  const name = 'snapshotter';
  if (refusal === undefined) return ok(name, `listens at ${path}`);
  const text = `${path} does not answer (${refusal})`;
  return warning(name, text, 'start it: orca snapshotter, or systemctl start orca-snapshotter');
}
