/** What systemd knows of the host. */
import { execFile } from 'node:child_process';

/** systemd is busy at such times. */
const ANSWER_MS = 3000;

/** Whether the host is going down, so that nobody starts again what ends. False where nobody can tell. */
export function isHostStopping(): Promise<boolean> {
  return new Promise((resolve) => {
    // It ends with 1 for every state but `running`.
    execFile('systemctl', ['is-system-running'], { timeout: ANSWER_MS }, (_, stdout) =>
      resolve(stdout.trim() === 'stopping'),
    );
  });
}
