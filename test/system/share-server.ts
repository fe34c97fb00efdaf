/** The smbd of a registry's shares, as `orca registry samba` has it started: real accounts, on a port of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { orca } from './orca-command.js';

const START_MS = 30_000;

export class ShareServer {
  private constructor(
    private readonly process: ChildProcess,
    readonly data: string,
    readonly port: number,
  ) {}

  /** Writes the configuration for the registry's data directory and starts smbd with the script that it gives. */
  static async start(data: string, port: number): Promise<ShareServer> {
    const args = ['registry', 'samba', '--data', data, '--port', `${port}`, '--listen', '127.0.0.1'];
    const { code, stdout, stderr } = await orca(args);
    if (code !== 0) throw new Error(`orca registry samba ended with ${code}: ${stderr}`);
    // A process group of its own, so that its children end with it; it ends when its standard input does.
    const child = spawn('sh', [stdout.trim()], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
    const server = new ShareServer(child, data, port);
    const end = Date.now() + START_MS;
    while (!(await answers(port))) {
      if (child.exitCode !== null || Date.now() > end) {
        await server.stop();
        throw new Error(`smbd does not start: ${await server.log()}`);
      }
      await sleep(20);
    }
    return server;
  }

  log(): Promise<string> {
    return readFile(join(this.data, 'samba/log/log.smbd'), 'utf8').catch(() => '');
  }

  async stop(): Promise<void> {
    const { pid, exitCode, signalCode } = this.process;
    if (pid === undefined || exitCode !== null || signalCode !== null) return;
    const gone = new Promise((resolve) => this.process.once('exit', resolve));
    process.kill(-pid, 'SIGKILL');
    await gone;
  }
}

async function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
