/** The parts of the OCI runtime specification 1.0.2 (config.md, config-linux.md) that Orca writes. */

export interface RuntimeSpec {
  ociVersion: string;
  process: {
    terminal: boolean;
    /** Characters. Without it the terminal begins as 0 × 0, until runc has copied the size of ours. */
    consoleSize?: { height: number; width: number };
    user: { uid: number; gid: number; additionalGids: number[] };
    args: string[];
    env: string[];
    cwd: string;
    capabilities: {
      bounding: string[];
      effective: string[];
      permitted: string[];
      inheritable: string[];
      ambient: string[];
    };
    rlimits: { type: string; soft: number; hard: number }[];
    noNewPrivileges: boolean;
    oomScoreAdj: number;
  };
  root: { path: string; readonly: boolean };
  hostname: string;
  mounts: SpecMount[];
  annotations: Record<string, string>;
  linux: {
    namespaces: { type: 'mount' | 'pid' | 'ipc' | 'uts' | 'network' | 'cgroup' }[];
    cgroupsPath: string;
    resources: { devices: { allow: boolean; access: string }[] };
    sysctl: Record<string, string>;
    maskedPaths: string[];
    readonlyPaths: string[];
    rootfsPropagation: string;
    seccomp?: Seccomp;
  };
}

export interface SpecMount {
  destination: string;
  type: string;
  source: string;
  options: string[];
}

export interface Seccomp {
  defaultAction: string;
  defaultErrnoRet: number;
  architectures: string[];
  syscalls: SeccompRule[];
}

export interface SeccompRule {
  names: string[];
  action: string;
  errnoRet?: number;
  args?: { index: number; value: number; valueTwo?: number; op: string }[];
}
