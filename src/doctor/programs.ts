/** The programs that Orca starts, and what the user may do. */
import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findRunc } from '../runtime/runc.js';
import { type Finding, ok, problem, warning } from './finding.js';

const ANSWER_MS = 10_000;
/** The first with stable handling of cgroup v2. */
const OLDEST_RUNC = 1;

export async function checkRunc(path = process.env['PATH'] ?? ''): Promise<Finding> {
  const name = 'runc';
  const remedy = 'install it (Debian: apt-get install runc)';
  let runc: string;
  try {
    runc = await findRunc(path);
  } catch {
    return problem(name, 'is not on PATH', remedy);
  }
  try {
    const { stdout } = await promisify(execFile)(runc, ['--version'], { timeout: ANSWER_MS });
    const version = /version (\S+)/.exec(stdout)?.[1] ?? 'of an unknown version';
    if (Number.parseInt(version, 10) < OLDEST_RUNC)
      return warning(name, `${runc} ${version} is old`, 'use runc 1.0 or later');
    return ok(name, `${runc} ${version}`);
  } catch (error) {
    return problem(name, `${runc} does not run: ${(error as Error).message.split('\n')[0]}`, remedy);
  }
}

/** Containers need root, mounts alone do not. */
export async function checkUser(
  uid = process.getuid?.() ?? -1,
  path = process.env['PATH'] ?? '',
): Promise<Finding[]> {
  if (uid === 0) return [ok('user', 'root'), await checkUserNamespaces(true)];
  const mounter = await isOnPath('fusermount3', path);
  return [
    problem(
      'user',
      'not root: orca run cannot make containers',
      'sudo orca run …; orca mount works as it is',
    ),
    mounter
      ? ok('fusermount3', mounter)
      : problem(
          'fusermount3',
          'is not on PATH, and only it mounts for other users than root',
          'apt-get install fuse3',
        ),
    await checkUserNamespaces(false),
  ];
}

async function checkUserNamespaces(root: boolean): Promise<Finding> {
  const name = 'user namespaces';
  const most = await readFile('/proc/sys/user/max_user_namespaces', 'utf8').catch(() => '0');
  const clone = await readFile('/proc/sys/kernel/unprivileged_userns_clone', 'utf8').catch(() => '1');
  if (Number(most) > 0 && (root || Number(clone) > 0)) return ok(name, 'available');
  if (root) return ok(name, 'off; containers of root do without');
  return warning(
    name,
    'off for this user',
    'sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000',
  );
}

async function isOnPath(program: string, path: string): Promise<string | undefined> {
  for (const directory of path.split(':')) {
    const candidate = join(directory, program);
    if (
      await access(candidate, constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return candidate;
  }
  return undefined;
}
