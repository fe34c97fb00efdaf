/**
 * A host with systemd as its first process, in namespaces of its own, and Orca installed by install.sh. It can be shut
 * down and booted again. Needs root.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { run } from './command.js';
import { builtOnce } from './test-cache.js';

const repository = fileURLToPath(new URL('../../../', import.meta.url));
const sources = join(repository, 'test/system/systemd');
const PACKAGES = ['systemd', 'fuse3', 'libstdc++6'];
const PATH = 'PATH=/usr/sbin:/usr/bin:/sbin:/bin';

/** A root file system with systemd of a Debian release, built once. */
function systemdRoot(suite: string): Promise<string> {
  const key = createHash('sha256').update(`${suite} ${PACKAGES}`).digest('hex').slice(0, 8);
  return builtOnce(`systemd-${suite}-${key}`, async (made) => {
    const options = ['--mode=root', '--variant=minbase', '--format=directory', '--quiet'];
    await run('mmdebstrap', [...options, `--include=${PACKAGES.join(',')}`, suite, made]);
  });
}

/** The systemd that has become the child of a process and takes orders; 0: there is none yet. */
async function initOf(parent: number): Promise<number> {
  // boot.sh has other children before, which may be gone by now.
  const read = (path: string) => readFile(path, 'utf8').catch(() => '');
  const child = Number(await read(`/proc/${parent}/task/${parent}/children`));
  const isReady = existsSync(`/proc/${child}/root/run/systemd/private`);
  return isReady && (await read(`/proc/${child}/comm`)) === 'systemd\n' ? child : 0;
}

export class SystemdHost {
  #process: ChildProcess | undefined;
  #init = 0;

  private constructor(
    /** A tmpfs, with a file system of control groups in it. */
    private readonly directory: string,
    private readonly base: string,
  ) {}

  /** Not yet booted. Orca's units are enabled, and `fstab` is its table of mounts. */
  static async install(suite: string, fstab: string): Promise<SystemdHost> {
    const base = await systemdRoot(suite);
    const directory = await realpath(await mkdtemp(join(tmpdir(), 'orca-systemd-')));
    const host = new SystemdHost(directory, base);
    await run('mount', ['-t', 'tmpfs', 'none', directory]);
    const upper = join(directory, 'upper');
    for (const path of ['upper/usr/bin', 'upper/etc', 'work', 'root', 'cgroup', 'disk/srv'])
      await mkdir(join(directory, path), { recursive: true });
    await run('mount', ['-t', 'cgroup2', 'none', join(directory, 'cgroup')]);
    await mkdir(host.#cgroup);
    await copyFile(process.execPath, join(upper, 'usr/bin/node'));
    const options = ['--root', upper, '--prefix', '/usr', '--node', '/usr/bin/node'];
    await run('sh', [join(repository, 'deploy/install.sh'), ...options]);
    await run('systemctl', [`--root=${upper}`, 'enable', '--quiet', 'orca.socket', 'orca.service']);
    // The kernel is this machine's.
    await run('systemctl', [`--root=${upper}`, 'mask', '--quiet', 'systemd-modules-load.service']);
    await writeFile(join(upper, 'etc/fstab'), fstab);
    await copyFile(join(sources, 'reader.js'), join(host.srv, 'reader.mjs'));
    return host;
  }

  /** What the host has as /srv. */
  get srv(): string {
    return join(this.directory, 'disk/srv');
  }

  get #cgroup(): string {
    return join(this.directory, 'cgroup', basename(this.directory));
  }

  /** Resolves when systemd has started everything. */
  async boot(): Promise<void> {
    const args = [join(sources, 'boot.sh'), this.directory, this.base, this.#cgroup];
    const child = spawn('unshare', ['--mount', '--propagation', 'private', ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#process = child;
    let output = '';
    child.stderr.on('data', (chunk: Buffer) => (output += chunk));
    for (this.#init = 0; this.#init === 0; await sleep(20)) {
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`the host does not boot: ${output}`);
      this.#init = await initOf(child.pid as number);
    }
    const state = await this.sh('systemctl is-system-running --wait || true');
    if (state !== 'running\n') throw new Error(`the host is ${state}${await this.sh('systemctl --failed')}`);
  }

  /** Runs a script there; an Error with all of its output when it does not end with 0. */
  sh(script: string): Promise<string> {
    const namespaces = ['--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup', '--root', '--wd'];
    return run('nsenter', [
      ...['--target', String(this.#init), ...namespaces],
      ...['env', '-i', PATH, 'HOME=/root', 'sh', '-euc', script],
    ]);
  }

  async mainPid(unit: string): Promise<number> {
    return Number(await this.sh(`systemctl show --property=MainPID --value ${unit}`));
  }

  /** Resolves when it has ended. */
  async powerOff(): Promise<void> {
    const ended = once(this.#process!, 'exit');
    await this.sh('systemctl poweroff');
    await ended;
  }

  /** Ends it, however it is, and removes everything. */
  async remove(): Promise<void> {
    const child = this.#process;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'exit');
      // The kernel ends all processes of the namespace with it.
      child.kill('SIGKILL');
      await ended;
    }
    await run('find', [this.#cgroup, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', ';']);
    await run('umount', [join(this.directory, 'cgroup')]);
    await run('umount', [this.directory]);
    await rm(this.directory, { recursive: true });
  }
}
