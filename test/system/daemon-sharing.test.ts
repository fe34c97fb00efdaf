/** Containers of one image share one mount of the daemon, which stays for a while when the last of them has ended. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { ProfileStore } from '../../src/cache/profile-store.js';
import { daemonCommand } from '../../src/daemon/start.js';
import { packageFile } from '../../src/installation.js';
import { MNT_DETACH } from '../../src/mount/mount-point.js';
import { ORCA_TYPE, readMountTable } from '../../src/mount/mount-table.js';
import { addon } from '../../src/native/addon.js';
import { findRunc } from '../../src/runtime/runc.js';
import { DaemonFixture } from '../daemon/daemon-fixture.js';
import { expandBusybox } from './busybox-image.js';

const launcher = packageFile('native/build/orca');
const APPLETS = ['sh', 'wc', 'cat'];
/** Says what it has read of every file that it is told of. */
const READER = ['sh', '-c', 'echo up; while read path; do wc -c < $path || echo failed; done; echo over'];
/** As the daemon has it. */
const MOST_UNUSED = 16;

class Host {
  readonly fixture: DaemonFixture;
  readonly #path: string;
  readonly #containers: Container[] = [];

  private constructor(fixture: DaemonFixture, path: string) {
    this.fixture = fixture;
    this.#path = path;
  }

  static async open(t: ExecutionContext): Promise<Host> {
    t.timeout(120_000);
    const fixture = await DaemonFixture.open(t);
    const host = new Host(fixture, dirname(await findRunc()));
    t.teardown(() => host.#killAll());
    await expandBusybox(fixture.directory, fixture.store, APPLETS);
    await fixture.start();
    return host;
  }

  get cache(): string {
    return join(this.fixture.directory, 'cache');
  }

  get runDirectory(): string {
    return join(this.fixture.directory, 'run');
  }

  async start(options: readonly string[] = [], env: object = {}): Promise<Container> {
    const container = new Container(this.#spawn(options, env));
    this.#containers.push(container);
    await container.line();
    return container;
  }

  /** Devices of the sessions that are mounted anywhere below the run directory. */
  async sessions(): Promise<string[]> {
    const own = (await readMountTable()).filter(
      ({ type, mountPoint }) => type === ORCA_TYPE && mountPoint.startsWith(this.fixture.directory),
    );
    return [...new Set(own.map(({ device }) => device))];
  }

  images(): Promise<string[]> {
    return readdir(join(this.runDirectory, 'images')).catch(() => []);
  }

  async containersLeft(): Promise<string[]> {
    return await readdir(join(this.runDirectory, 'containers'));
  }

  /** READs that the one mount has been asked for. */
  async reads(): Promise<number> {
    const [mount] = await this.fixture.client.mounts();
    return (await this.fixture.client.mount(mount!.id)).requests['READ'] ?? 0;
  }

  #spawn(options: readonly string[], env: object): ChildProcess {
    const { store } = this.fixture;
    return spawn(launcher, ['run', '-i', ...options, 'busybox', ...READER], {
      env: {
        ...{ PATH: this.#path, ORCA_RUN_DIR: this.runDirectory, ORCA_CACHE: this.cache, ORCA_STORE: store },
        ...env,
      },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
  }

  /** What a test that fails leaves. */
  async #killAll(): Promise<void> {
    const running = this.#containers.filter(
      ({ process: { exitCode, signalCode } }) => (exitCode ?? signalCode) === null,
    );
    await Promise.all(running.map((container) => container.end()));
  }
}

class Container {
  readonly process: ChildProcess;
  readonly #lines: Interface;
  readonly #unread: string[] = [];
  #next: ((line: string) => void) | undefined;

  constructor(child: ChildProcess) {
    this.process = child;
    this.#lines = createInterface(child.stdout!);
    this.#lines.on('line', (line) => {
      const next = this.#next;
      this.#next = undefined;
      if (next === undefined) this.#unread.push(line);
      else next(line);
    });
  }

  /** Whatever it says next. */
  async line(): Promise<string> {
    const unread = this.#unread.shift();
    if (unread !== undefined) return unread;
    return await new Promise((resolve) => {
      this.#next = resolve;
    });
  }

  async read(path: string): Promise<string> {
    this.process.stdin!.write(`${path}\n`);
    return (await this.line()).trim();
  }

  async end(): Promise<number> {
    const over = once(this.process, 'exit');
    this.process.stdin!.end();
    const [code] = await over;
    return code;
  }

  async kill(): Promise<void> {
    const over = once(this.process, 'exit');
    this.process.kill('SIGKILL');
    await over;
  }
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 1500; tries++) {
    if (await condition()) return;
    await sleep(20);
  }
  throw new Error(`it never was: ${condition}`);
}

const busyboxSize = async () => String((await readFile('/bin/busybox')).length);

test.serial('containers that start at once and later have one session, and each is listed', async (t) => {
  const host = await Host.open(t);
  const { client } = host.fixture;
  const containers = await Promise.all([host.start(), host.start(), host.start()]);
  containers.push(await host.start());
  t.is((await host.sessions()).length, 1);
  t.is((await host.images()).length, 1);
  const mounts = await client.mounts();
  t.is(new Set(mounts.map(({ id }) => id)).size, 4);
  for (const { id, container, mountpoint, image } of mounts) {
    t.is(mountpoint, join(container ?? '', 'image'));
    t.is(image, 'busybox');
    t.deepEqual(await readFile(join(mountpoint, 'bin/busybox')), await readFile('/bin/busybox'));
    t.is((await client.mount(id)).mountpoint, mountpoint);
  }
  t.is((await client.images())[0]?.mounts, 4);
  t.is((await client.ping())?.mounts, 4);
  await t.throwsAsync(client.shutDown(), { code: 'BUSY' });
  await t.throwsAsync(client.removeImage('busybox'), { code: 'BUSY' });
  for (const container of containers) t.is(await container.end(), 0);
  t.deepEqual(await client.mounts(), []);
  t.deepEqual(await host.containersLeft(), []);
  t.is((await host.sessions()).length, 1);
});

test.serial(
  'what one container has read is not read again by the next, even if there is none between',
  async (t) => {
    const host = await Host.open(t);
    const size = await busyboxSize();
    const first = await host.start();
    t.is(await first.read('/bin/busybox'), size);
    const reads = await host.reads();
    t.true(reads > 0);
    await first.end();
    const second = await host.start();
    t.is(await second.read('/bin/busybox'), size);
    t.is(await host.reads(), reads);
    await second.end();
    const [image] = await host.fixture.client.images();
    const profile = await new ProfileStore(host.cache).read(image!.manifestDigest);
    t.is(profile?.runs, 1);
  },
);

test.serial('containers read on and share on when the daemon is killed or replaced', async (t) => {
  const host = await Host.open(t);
  const { client } = host.fixture;
  const size = await busyboxSize();
  const [one, two] = await Promise.all([host.start(), host.start()]);
  const before = (await client.mounts()).map(({ id }) => id).sort();
  for (const way of ['kill', 'replacement']) {
    const { startedAt, runDirectory, cache } = await host.fixture.answer();
    if (way === 'kill') await host.fixture.killDaemon();
    else await client.replace(daemonCommand({ socket: client.socket, runDirectory, cache }));
    while ((await host.fixture.answer()).startedAt === startedAt) await sleep(5);
    await writeFile('/proc/sys/vm/drop_caches', '3');
    for (const container of [one, two]) t.is(await container.read('/bin/busybox'), size, way);
    const after = (await client.mounts()).map(({ id }) => id).sort();
    t.deepEqual(after, before, way);
    t.is((await client.ping())?.mounts, 2);
    const three = await host.start();
    t.is((await host.sessions()).length, 1, way);
    await three.end();
    t.is((await client.mounts()).length, 2, way);
  }
  await one.end();
  await two.kill();
  await until(async () => (await host.containersLeft()).length === 0);
  t.deepEqual(await host.containersLeft(), []);
  t.deepEqual(await client.mounts(), []);
  await host.fixture.killDaemon();
  t.is((await host.fixture.answer()).mounts, 0);
  t.is((await host.sessions()).length, 1);
  t.is((await client.prune()).images.length, 1);
  t.deepEqual([await host.sessions(), await host.images()], [[], []]);
});

test.serial('a mount that nobody uses blocks nothing', async (t) => {
  const host = await Host.open(t);
  const { fixture } = host;
  const { client } = fixture;
  const run = async () => {
    await (await host.start()).end();
    t.is((await host.sessions()).length, 1);
  };
  const nothing = async (what: string) =>
    t.deepEqual([await host.sessions(), await host.images()], [[], []], what);
  await run();
  t.is((await client.removeImage('busybox')).image, 'busybox');
  await nothing('rm');
  await run();
  await client.setPinned('busybox', true);
  t.deepEqual((await client.prune()).images, []);
  t.is((await host.sessions()).length, 1);
  t.is((await client.prune(true)).images.length, 1);
  await nothing('prune');
  for (const way of ['stop', 'SIGTERM']) {
    await run();
    const ended = once(fixture.supervisor, 'exit');
    if (way === 'stop') await client.shutDown();
    else process.kill((await fixture.answer()).pid, 'SIGTERM');
    t.deepEqual(await ended, [0, null], way);
    await nothing(way);
    await fixture.start();
  }
});

test.serial('mounts that nobody uses are bounded in number, and those unused longest go first', async (t) => {
  const host = await Host.open(t);
  const settings = Array.from({ length: MOST_UNUSED + 2 }, (_, index) => ['--background', `${index + 1}M`]);
  const names: string[] = [];
  for (const options of settings) {
    const before = new Set(await host.images());
    await (await host.start(options)).end();
    names.push((await host.images()).find((name) => !before.has(name)) ?? 'none');
  }
  await until(async () => (await host.images()).length === MOST_UNUSED);
  t.deepEqual((await host.images()).sort(), names.slice(2).sort());
  t.is((await host.sessions()).length, MOST_UNUSED);
});

test.serial('what is served in another way is not shared', async (t) => {
  const host = await Host.open(t);
  const secret = { ORCA_SMB_USER: 'somebody', ORCA_SMB_PASSWORD: 'secret' };
  const containers = [
    await host.start(),
    await host.start(['--no-preload']),
    await host.start(['--profiles', 'off']),
    await host.start([], secret),
  ];
  t.is((await host.sessions()).length, containers.length);
  t.notRegex(await readFile(join(host.runDirectory, 'daemon/state.json'), 'utf8'), /secret"/);
  // What a registry is logged in to by is nothing to a store.
  const alike = [await host.start(['--pull', 'always'], { HOME: '/' }), await host.start([], secret)];
  t.is((await host.sessions()).length, containers.length);
  for (const container of [...containers, ...alike]) await container.end();
});

test.serial(
  'a container that is killed, or whose mount is removed by force, leaves the others alone',
  async (t) => {
    const host = await Host.open(t);
    const { client } = host.fixture;
    const size = await busyboxSize();
    const [killed, removed, other] = [await host.start(), await host.start(), await host.start()];
    const [, own] = await client.mounts();
    await client.removeMount(own!.id, { force: true });
    await killed.kill();
    await until(async () => (await host.containersLeft()).length === 2);
    t.is((await client.mounts()).length, 1);
    await writeFile('/proc/sys/vm/drop_caches', '3');
    for (const container of [removed, other]) t.is(await container.read('/bin/busybox'), size);
    await removed.kill();
    // Not only at the next run.
    await until(async () => (await host.containersLeft()).length === 1);
    t.is((await host.containersLeft()).length, 1);
    t.is(await other.read('/bin/sh'), size);
    t.is(await other.end(), 0);
  },
);

test.serial(
  'a shared mount that somebody else unmounts serves those that have it, and no others',
  async (t) => {
    const host = await Host.open(t);
    const size = await busyboxSize();
    const first = await host.start();
    const [name] = await host.images();
    addon.umount(join(host.runDirectory, 'images', name!), MNT_DETACH);
    const second = await host.start();
    t.is((await host.sessions()).length, 2);
    await writeFile('/proc/sys/vm/drop_caches', '3');
    for (const container of [first, second]) t.is(await container.read('/bin/busybox'), size);
    t.is(await first.end(), 0);
    await until(async () => (await host.images()).length === 1);
    t.is((await host.sessions()).length, 1);
    await second.end();
  },
);

test.serial('nothing is left of shared mounts when daemon and supervisor were killed', async (t) => {
  const host = await Host.open(t);
  const { fixture } = host;
  await (await host.start(['--no-preload'])).end();
  const container = await host.start();
  t.is((await host.images()).length, 2);
  const { pid } = await fixture.answer();
  const ended = once(fixture.supervisor, 'exit');
  process.kill(pid, 'SIGSTOP');
  fixture.supervisor.kill('SIGKILL');
  await ended;
  process.kill(pid, 'SIGKILL');
  await container.kill();
  await until(async () => (await fixture.client.ping()) === undefined);
  await fixture.start();
  t.deepEqual(await host.images(), []);
  t.deepEqual(await fixture.client.mounts(), []);
  await (await host.start()).end();
  t.deepEqual(await host.containersLeft(), []);
  t.is((await host.sessions()).length, 1);
});
