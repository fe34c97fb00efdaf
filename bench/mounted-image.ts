/** Images for the workloads: expanded into a store, and mounted by a process of their own. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Store } from '../src/image/store.js';
import type { MountStats } from '../src/mount/mount.js';
import { openImageInput } from '../src/oci/image-input.js';

export interface MountRequest {
  /** Without one, the image is that of a registry. */
  store?: string;
  /** Of a registry: what may be used. */
  transports?: readonly ('smb' | 'https' | 'blob')[];
  image: string;
  cache: string;
  mountpoint: string;
  /** KiB. */
  readAhead?: number;
  /** Record and replay startup profiles; default true. */
  profile?: boolean;
  preload?: boolean;
}

export interface MountedImage {
  mountpoint: string;
  /** Process id of the server. */
  pid: number;
  stats(): Promise<MountStats>;
  unmount(): Promise<void>;
}

/** Expands the image of an OCI layout directory into a store. */
export async function expandInto(store: string, directory: string, tag: string, name: string): Promise<void> {
  const input = await openImageInput(`oci:${directory}:${tag}`);
  try {
    await (await Store.open(store, { create: true })).expand(input, { name });
  } finally {
    await input.close();
  }
}

/** Mounts an image; user and password of an smb store come from the environment given. */
export async function mountedImage(
  request: MountRequest,
  env: NodeJS.ProcessEnv = {},
): Promise<MountedImage> {
  await mkdir(request.mountpoint, { recursive: true });
  const server = fork(join(import.meta.dirname, 'mount-server.js'), [JSON.stringify(request)], {
    env: { ...process.env, ...env },
  });
  const exited = once(server, 'exit');
  const first = await Promise.race([once(server, 'message'), exited]);
  if (first[0] !== 'mounted') throw new Error(`the mount of ${request.image} ended with ${first[0]}`);
  return {
    mountpoint: request.mountpoint,
    pid: server.pid!,
    async stats() {
      server.send('stats');
      return (await once(server, 'message'))[0] as MountStats;
    },
    async unmount() {
      if (server.exitCode !== null) return;
      server.send('unmount');
      const end = await Promise.race([once(server, 'message'), exited]);
      if (typeof end[0] === 'object') throw new Error((end[0] as { error: string }).error);
    },
  };
}
