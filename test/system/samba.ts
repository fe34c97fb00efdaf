/**
 * A private smbd for tests, benchmarks and the demo: own configuration, own directories, own passwords, on a free
 * port of 127.0.0.1. Nothing of the machine's Samba configuration is read or changed. Needs root and Debian's
 * `samba` package (smbd, pdbedit).
 *
 *     const samba = await Samba.start({ shares: { store: { path: '/srv/store' } }, encryption: 'required' });
 *     samba.port; samba.username; samba.password; samba.url('store');   // smb://127.0.0.1:PORT/store
 *     await samba.restart();   // kill -9 and start again, same port, same passwords
 *     await samba.stop();      // all its processes are gone, its directory is removed
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from './free-port.js';

export interface SambaShare {
  path: string;
  /** Names of `users` that may use it; all of them by default. */
  users?: readonly string[];
  /** `smb encrypt` of this share alone. */
  encryption?: 'required' | 'off';
  guest?: boolean;
  /** Default false: shares are read-only. */
  writable?: boolean;
}

export interface SambaOptions {
  shares: Readonly<Record<string, SambaShare>>;
  /** Name → password. Default: one user, `orca`, with a password of its own. */
  users?: Readonly<Record<string, string>>;
  signing?: 'required' | 'auto';
  /** `server smb encrypt` for all shares. */
  encryption?: 'required' | 'off';
  /** `server smb3 encryption algorithms`, as Samba names them: AES-128-GCM, AES-256-CCM, … */
  ciphers?: readonly string[];
  /** `server smb3 signing algorithms`: AES-128-GMAC, AES-128-CMAC, HMAC-SHA256. */
  signingAlgorithms?: readonly string[];
  /** `server min protocol` and `server max protocol`: SMB2_10, SMB3_02, SMB3_11, … */
  minProtocol?: string;
  maxProtocol?: string;
  /** Unknown users become guests (`map to guest = Bad User`). */
  mapToGuest?: boolean;
  /** More lines of the global section. */
  settings?: Readonly<Record<string, string>>;
}

/** Accounts that every Debian has; a Samba user needs one, and files are read as root whoever logs in. */
const UNIX_ACCOUNTS = ['daemon', 'bin', 'sys', 'games', 'man', 'lp', 'mail', 'news'];
const DEFAULT_USERS = { orca: 'correct horse ünd Batterie' };
const START_TIMEOUT = 20_000;

function run(program: string, args: readonly string[], input: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = execFile(program, args, (error, _out, err) => {
      if (error) reject(new Error(`${program} failed: ${err || error.message}`));
      else resolve();
    });
    child.stdin!.end(input);
  });
}

async function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

const running = new Set<Samba>();
process.on('exit', () => {
  for (const samba of running) samba.signalAll('SIGKILL');
});

export class Samba {
  readonly host = '127.0.0.1';
  readonly port: number;
  readonly users: Readonly<Record<string, string>>;
  /** Holds everything of this server, its log included. */
  readonly directory: string;
  #process: ChildProcess | undefined;

  private constructor(directory: string, port: number, users: Readonly<Record<string, string>>) {
    this.directory = directory;
    this.port = port;
    this.users = users;
  }

  static async start(options: SambaOptions): Promise<Samba> {
    const directory = await mkdtemp(join(tmpdir(), 'orca-samba-'));
    const samba = new Samba(directory, await freePort(), options.users ?? DEFAULT_USERS);
    try {
      await chmod(directory, 0o755);
      await samba.#configure(options);
      await samba.#launch();
      return samba;
    } catch (error) {
      await samba.stop();
      throw error;
    }
  }

  /** The first user. */
  get username(): string {
    return Object.keys(this.users)[0]!;
  }

  get password(): string {
    return this.users[this.username]!;
  }

  /** smb://127.0.0.1:PORT/SHARE[/PATH], without user. */
  url(share: string, path = ''): string {
    return `smb://${this.host}:${this.port}/${share}${path === '' ? '' : `/${path}`}`;
  }

  get configFile(): string {
    return join(this.directory, 'smb.conf');
  }

  /** What smbd has logged so far. */
  async log(): Promise<string> {
    return readFile(join(this.directory, 'log.smbd'), 'utf8').catch(() => '');
  }

  async #configure(options: SambaOptions): Promise<void> {
    const accounts = new Map(Object.keys(this.users).map((name, i) => [name, UNIX_ACCOUNTS[i]]));
    if (accounts.size > UNIX_ACCOUNTS.length) throw new Error(`at most ${UNIX_ACCOUNTS.length} users`);
    const sub = (name: string) => join(this.directory, name);
    for (const name of ['private', 'lock', 'state', 'cache', 'pid', 'rpc'])
      await mkdir(sub(name), { mode: 0o755 });
    const userMap = [...accounts].map(([name, account]) => `${account} = "${name}"\n`).join('');
    await writeFile(sub('users.map'), userMap);
    const list = (names: readonly string[] | undefined) => names?.join(', ');
    const global: Record<string, string | undefined> = {
      'server role': 'standalone server',
      workgroup: 'ORCA',
      'netbios name': 'ORCATEST',
      'disable netbios': 'yes',
      'smb ports': String(this.port),
      interfaces: this.host,
      'bind interfaces only': 'yes',
      'passdb backend': `tdbsam:${sub('private/passdb.tdb')}`,
      'username map': sub('users.map'),
      'private dir': sub('private'),
      'lock directory': sub('lock'),
      'state directory': sub('state'),
      'cache directory': sub('cache'),
      'pid directory': sub('pid'),
      'ncalrpc dir': sub('rpc'),
      'log file': sub('log.smbd'),
      'max log size': '10000',
      'log level': '1',
      'load printers': 'no',
      printing: 'bsd',
      'printcap name': '/dev/null',
      'disable spoolss': 'yes',
      'rpc start on demand helpers': 'no',
      'server signing': options.signing === 'required' ? 'mandatory' : 'auto',
      'server smb encrypt': options.encryption,
      'server smb3 encryption algorithms': list(options.ciphers),
      'server smb3 signing algorithms': list(options.signingAlgorithms),
      'server min protocol': options.minProtocol,
      'server max protocol': options.maxProtocol,
      'map to guest': options.mapToGuest ? 'Bad User' : 'Never',
      'guest account': 'nobody',
      ...options.settings,
    };
    const lines = ['[global]'];
    for (const [key, value] of Object.entries(global))
      if (value !== undefined) lines.push(`  ${key} = ${value}`);
    for (const [name, share] of Object.entries(options.shares)) {
      lines.push(`[${name}]`, `  path = ${share.path}`, '  force user = root');
      lines.push(
        `  read only = ${share.writable ? 'no' : 'yes'}`,
        `  guest ok = ${share.guest ? 'yes' : 'no'}`,
      );
      if (share.encryption) lines.push(`  server smb encrypt = ${share.encryption}`);
      if (share.users)
        lines.push(`  valid users = ${share.users.map((user) => accounts.get(user)).join(' ')}`);
    }
    await writeFile(this.configFile, `${lines.join('\n')}\n`);
    for (const [name, account] of accounts) {
      const password = this.users[name];
      await run('pdbedit', ['-s', this.configFile, '-a', '-t', '-u', account!], `${password}\n${password}\n`);
    }
  }

  async #launch(): Promise<void> {
    // In a process group of its own, which its children share: so all of it can be signalled at once.
    const child = spawn(
      'smbd',
      ['-s', this.configFile, '-D', '-F', '--no-process-group', '-l', this.directory],
      {
        detached: true,
        // smbd in the foreground ends when its standard input closes, so it does not outlive a killed test run.
        stdio: ['pipe', 'ignore', 'ignore'],
      },
    );
    this.#process = child;
    running.add(this);
    let failure: Error | undefined;
    child.once('error', (error) => {
      failure = new Error(`smbd does not start (${error.message}); install the package samba`);
    });
    const deadline = Date.now() + START_TIMEOUT;
    while (!(await answers(this.port))) {
      if (failure) throw failure;
      if (child.exitCode !== null || Date.now() > deadline) {
        throw new Error(`smbd does not start; its log: ${(await this.log()).slice(-2000)}`);
      }
      await sleep(20);
    }
  }

  /** @internal Signals smbd and all its children. */
  signalAll(signal: NodeJS.Signals): void {
    const pid = this.#process?.pid;
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // The group is gone already.
    }
  }

  /** Ends every process of this server at once, as `kill -9` does; connections break. */
  async kill(): Promise<void> {
    const child = this.#process;
    if (child === undefined) return;
    const exited = child.exitCode !== null || child.signalCode !== null || child.pid === undefined;
    const gone = exited ? Promise.resolve() : new Promise((resolve) => child.once('exit', resolve));
    this.signalAll('SIGKILL');
    await gone;
    this.#process = undefined;
    running.delete(this);
  }

  /** Starts a killed server again, on the same port with the same users. */
  async launch(): Promise<void> {
    if (this.#process === undefined) await this.#launch();
  }

  /** `kill`, a pause of `downtime` milliseconds, `launch`. */
  async restart(downtime = 0): Promise<void> {
    await this.kill();
    await sleep(downtime);
    await this.launch();
  }

  /** Ends the server and removes its directory. */
  async stop(): Promise<void> {
    await this.kill();
    await rm(this.directory, { recursive: true, force: true });
  }
}
