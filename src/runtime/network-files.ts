/**
 * The files that Docker binds over /etc/resolv.conf, /etc/hostname and /etc/hosts of every container, so that an
 * image need not know its host: written per container, thrown away with it.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Network } from './spec.js';

const LOOPBACK_HOSTS = '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n';

/** Writes them into `directory`; returns path in the container → path on the host. */
export async function writeNetworkFiles(
  directory: string,
  options: { network: Network; hostname: string },
): Promise<Record<string, string>> {
  const contents = {
    '/etc/resolv.conf': readHostFile('/etc/resolv.conf', ''),
    '/etc/hostname': `${options.hostname}\n`,
    '/etc/hosts':
      options.network === 'host'
        ? readHostFile('/etc/hosts', LOOPBACK_HOSTS)
        : `${LOOPBACK_HOSTS}127.0.0.1\t${options.hostname}\n`,
  };
  const files = await Promise.all(
    Object.entries(contents).map(async ([destination, content]) => {
      const path = join(directory, destination.slice('/etc/'.length));
      await writeFile(path, await content, { mode: 0o644, flag: 'wx' });
      return [destination, path] as const;
    }),
  );
  return Object.fromEntries(files);
}

async function readHostFile(path: string, otherwise: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch {
    return otherwise;
  }
}
