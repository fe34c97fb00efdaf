import { readFile, writeFile } from 'node:fs/promises';
import test from 'ava';
import type { ProcessConfig } from '../../src/oci/image-config.js';
import { seccompProfile } from '../../src/runtime/seccomp.js';
import { buildSpec, processArguments, type SpecInput, workingDirectory } from '../../src/runtime/spec.js';

const CONFIG: ProcessConfig = {
  user: 'app',
  env: ['PATH=/usr/bin', 'LANG=C.UTF-8'],
  entrypoint: ['/entry', '--'],
  cmd: ['serve', '80'],
  workingDir: '/srv/app',
  stopSignal: 'SIGQUIT',
  volumes: [],
  exposedPorts: [],
  labels: { maintainer: 'somebody' },
};
const EMPTY: ProcessConfig = { env: [], volumes: [], exposedPorts: [], labels: {} };

function input(changes: Partial<SpecInput> = {}, options: Partial<SpecInput['options']> = {}): SpecInput {
  return {
    id: 'f00d',
    config: CONFIG,
    options: {
      command: [],
      environment: [],
      terminal: false,
      readOnly: false,
      network: 'host',
      volumes: [],
      ...options,
    },
    user: { uid: 1000, gid: 1001, additionalGids: [1001, 44], home: '/home/app' },
    hostname: 'box',
    rootfs: '/run/x/rootfs',
    networkFiles: { '/etc/hosts': '/run/x/hosts', '/etc/hostname': '/run/x/hostname' },
    hostEnvironment: {},
    openFiles: 524288,
    unifiedCgroups: true,
    ...changes,
  };
}

/** Set UPDATE_GOLDEN=1 to write the files anew, and read the difference before it is committed. */
async function matchesGolden(name: string, value: unknown): Promise<{ actual: unknown; expected: unknown }> {
  const path = new URL(`../../../test/runtime/golden/${name}.json`, import.meta.url);
  const text = `${JSON.stringify(value, null, 2)}\n`;
  if (process.env['UPDATE_GOLDEN'] === '1') await writeFile(path, text);
  return { actual: JSON.parse(text), expected: JSON.parse(await readFile(path, 'utf8')) };
}

test('a user other than root on the host network', async (t) => {
  const { actual, expected } = await matchesGolden('user-host-network', buildSpec(input()));
  t.deepEqual(actual, expected);
});

test('root with a terminal, no network, volumes, a read-only root and cgroup v1', async (t) => {
  const spec = buildSpec(
    input(
      {
        config: { ...EMPTY, cmd: ['sh'] },
        user: { uid: 0, gid: 0, additionalGids: [0], home: '/root' },
        unifiedCgroups: false,
        seccomp: seccompProfile('x64'),
      },
      {
        terminal: true,
        readOnly: true,
        network: 'none',
        environment: ['A=1'],
        volumes: [
          { source: '/b', destination: '/data/inner/deep', readOnly: true },
          { source: '/a', destination: '/data', readOnly: false },
          { source: '/h', destination: '/etc/hosts', readOnly: true },
          { source: '/s', destination: '/dev/shm', readOnly: false },
        ],
      },
    ),
  );
  const { actual, expected } = await matchesGolden('root-terminal-no-network', spec);
  t.deepEqual(actual, expected);
});

test('a command replaces Cmd and keeps Entrypoint', (t) => {
  t.deepEqual(processArguments(CONFIG, []), ['/entry', '--', 'serve', '80']);
  t.deepEqual(processArguments(CONFIG, ['x']), ['/entry', '--', 'x']);
  t.deepEqual(processArguments({ ...EMPTY, cmd: ['sh'] }, []), ['sh']);
  t.throws(() => processArguments(EMPTY, []), { code: 'NO_COMMAND' });
});

test('the working directory is the option, the image’s, or /', (t) => {
  t.is(workingDirectory(CONFIG, undefined), '/srv/app');
  t.is(workingDirectory(CONFIG, '/x/../y'), '/y');
  t.is(workingDirectory(EMPTY, undefined), '/');
  t.throws(() => workingDirectory(CONFIG, 'tmp'), { code: 'INVALID_OPTION', message: /absolute/ });
});

test('only root holds capabilities at the start', (t) => {
  const user = buildSpec(input()).process.capabilities;
  t.deepEqual(user.effective, []);
  t.deepEqual(user.inheritable, []);
  t.true(user.bounding.includes('CAP_SETUID'));
  t.false(user.bounding.includes('CAP_SYS_ADMIN'));
});

test('an architecture without a seccomp profile has none, rather than a wrong one', (t) => {
  t.is(seccompProfile('riscv64'), undefined);
  t.is(seccompProfile('arm64')?.architectures[0], 'SCMP_ARCH_AARCH64');
});

test('no system call stands in the seccomp profile twice', (t) => {
  const names = seccompProfile('x64')?.syscalls[0]?.names ?? [];
  t.deepEqual([...new Set(names)].sort(), [...names].sort());
  for (const forbidden of [
    'mount',
    'unshare',
    'setns',
    'bpf',
    'keyctl',
    'reboot',
    'kexec_load',
    'init_module',
  ]) {
    t.false(names.includes(forbidden), forbidden);
  }
});
