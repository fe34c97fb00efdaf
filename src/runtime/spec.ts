/**
 * From an image's config and the user's options to an OCI runtime specification, by Docker's rules. Pure: what has
 * to be read from the image or the host is passed in.
 */
import { posix } from 'node:path';
import type { ProcessConfig } from '../oci/image-config.js';
import { DEFAULT_CAPABILITIES, DEFAULT_MOUNTS, MASKED_PATHS, READONLY_PATHS } from './defaults.js';
import { buildEnvironment } from './environment.js';
import { RuntimeError } from './runtime-error.js';
import type { RuntimeSpec, Seccomp, SpecMount } from './spec-types.js';
import type { ProcessUser } from './user-database.js';
import type { Volume } from './volume.js';

export type Network = 'host' | 'none';

/** What the user asks for on the command line of `orca run`. */
export interface ProcessOptions {
  /** COMMAND and ARG…; empty for what the image says. */
  command: readonly string[];
  environment: readonly string[];
  workingDirectory?: string | undefined;
  terminal: boolean;
  readOnly: boolean;
  network: Network;
  volumes: readonly Volume[];
}

export interface SpecInput {
  id: string;
  config: ProcessConfig;
  options: ProcessOptions;
  user: ProcessUser;
  hostname: string;
  /** The writable root file system, absolute. */
  rootfs: string;
  /** Files that take the places of /etc/resolv.conf, /etc/hostname and /etc/hosts, by their path in the container. */
  networkFiles: Readonly<Record<string, string>>;
  hostEnvironment: Readonly<Record<string, string | undefined>>;
  /** Hard limit of open files that this process may hand on. */
  openFiles: number;
  /** Whether the host has only cgroup v2, where a container gets a cgroup namespace. */
  unifiedCgroups: boolean;
  seccomp?: Seccomp | undefined;
  /** Of our terminal, when the container gets one. */
  consoleSize?: { height: number; width: number } | undefined;
}

/** The soft limit that systemd and containerd 2 give; servers raise it themselves, up to the hard one. */
const SOFT_OPEN_FILES = 1024;

export function buildSpec(input: SpecInput): RuntimeSpec {
  const { config, options, user } = input;
  return {
    ociVersion: '1.0.2',
    process: {
      terminal: options.terminal,
      ...(input.consoleSize === undefined ? {} : { consoleSize: input.consoleSize }),
      user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids },
      args: processArguments(config, options.command),
      env: buildEnvironment({
        hostname: input.hostname,
        terminal: options.terminal,
        image: config.env,
        options: options.environment,
        host: input.hostEnvironment,
        home: user.home,
      }),
      cwd: workingDirectory(config, options.workingDirectory),
      capabilities: capabilities(user.uid),
      rlimits: [
        { type: 'RLIMIT_NOFILE', soft: Math.min(SOFT_OPEN_FILES, input.openFiles), hard: input.openFiles },
      ],
      noNewPrivileges: false,
      oomScoreAdj: 0,
    },
    root: { path: input.rootfs, readonly: options.readOnly },
    hostname: input.hostname,
    mounts: mounts(input),
    annotations: annotations(config),
    linux: {
      namespaces: [
        { type: 'mount' },
        { type: 'pid' },
        { type: 'ipc' },
        { type: 'uts' },
        ...(options.network === 'none' ? [{ type: 'network' as const }] : []),
        ...(input.unifiedCgroups ? [{ type: 'cgroup' as const }] : []),
      ],
      cgroupsPath: `/orca/${input.id}`,
      resources: { devices: [{ allow: false, access: 'rwm' }] },
      sysctl: sysctl(options.network),
      maskedPaths: MASKED_PATHS,
      readonlyPaths: READONLY_PATHS,
      rootfsPropagation: 'rprivate',
      ...(input.seccomp === undefined ? {} : { seccomp: input.seccomp }),
    },
  };
}

/** Entrypoint, then the user's command or, without one, Cmd. NO_COMMAND when that is nothing. */
export function processArguments(config: ProcessConfig, command: readonly string[]): string[] {
  const args = [...(config.entrypoint ?? []), ...(command.length > 0 ? command : (config.cmd ?? []))];
  if (args.length === 0 || args[0] === '') {
    throw new RuntimeError('NO_COMMAND', 'the image names no command to run; give one after the image name');
  }
  return args;
}

/** Absolute and normalised; runc makes it in the container if it is missing. */
export function workingDirectory(config: ProcessConfig, option: string | undefined): string {
  const directory = option ?? (config.workingDir || '/');
  if (!directory.startsWith('/')) {
    const origin = option === undefined ? "the image's working directory" : '-w';
    throw new RuntimeError(
      'INVALID_OPTION',
      `${origin} ${JSON.stringify(directory)}: an absolute path is needed`,
    );
  }
  return posix.resolve(directory);
}

/** Other users than root start with none in effect, as after execve(2), and can get those of the bounding set. */
function capabilities(uid: number): RuntimeSpec['process']['capabilities'] {
  const held = uid === 0 ? DEFAULT_CAPABILITIES : [];
  return {
    bounding: DEFAULT_CAPABILITIES,
    effective: held,
    permitted: held,
    inheritable: [],
    ambient: [],
  };
}

/** Parents before children, so that a volume below another one stays visible. */
function mounts(input: SpecInput): SpecMount[] {
  const files = Object.entries(input.networkFiles).map(([destination, source]) => ({
    destination,
    source,
    readOnly: false,
  }));
  const depth = (volume: Volume) => volume.destination.split('/').length;
  const volumes = [...input.options.volumes].sort((a, b) => depth(a) - depth(b));
  const replaced = new Set(volumes.map((volume) => volume.destination));
  return [
    ...DEFAULT_MOUNTS.filter((mount) => !replaced.has(mount.destination)),
    ...[...files.filter((file) => !replaced.has(file.destination)), ...volumes].map((volume) => ({
      destination: volume.destination,
      type: 'bind',
      source: volume.source,
      options: ['rbind', 'rprivate', volume.readOnly ? 'ro' : 'rw'],
    })),
  ];
}

/** The signal to stop the container with is kept where image-spec conversion.md puts it. */
function annotations(config: ProcessConfig): Record<string, string> {
  return {
    ...config.labels,
    ...(config.stopSignal ? { 'org.opencontainers.image.stopSignal': config.stopSignal } : {}),
  };
}

/** In a network namespace of its own a container may use low ports and ping without privilege, as with Docker. */
function sysctl(network: Network): Record<string, string> {
  if (network === 'host') return {};
  return { 'net.ipv4.ip_unprivileged_port_start': '0', 'net.ipv4.ping_group_range': '0 2147483647' };
}
