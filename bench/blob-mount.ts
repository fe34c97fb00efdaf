/** Images that are mounted from the blobs of a docker-registry, by a process of their own. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { MountStats } from '../src/mount/mount.js';
import { run } from '../test/system/command.js';
import { DockerRegistry } from '../test/system/docker-registry.js';

export interface BlobMountRequest {
  /** Of the image in the registry. */
  reference: string;
  /** The same image in a store. Without one the host expands it, unless its cache has what it needs for that. */
  store?: string;
  image: string;
  cache: string;
  mountpoint: string;
  /** By ranges; by streams, as without checkpoints; or from what the host has expanded. */
  how: 'ranges' | 'stream' | 'expand';
}

export interface BlobMountStats {
  /** Bytes of blobs that were fetched. */
  bytes: number;
  /** MiB of resident memory at most. */
  peak: number;
  /** Seconds of the whole process. */
  cpu: number;
  mount: MountStats;
}

export interface BlobMount {
  stats(): Promise<BlobMountStats>;
  unmount(): Promise<void>;
}

/** A registry that has the image of an OCI layout as NAME:1. */
export async function registryWith(directory: string, tag: string, name: string): Promise<DockerRegistry> {
  const registry = await DockerRegistry.start();
  const copy = ['copy', '-q', '--preserve-digests', '--dest-tls-verify=false'];
  const reference = `127.0.0.1:${registry.port}/${name}:1`;
  await run('skopeo', [...copy, `oci:${directory}:${tag}`, `docker://${reference}`]);
  return registry;
}

export async function blobMount(request: BlobMountRequest): Promise<BlobMount> {
  await mkdir(request.mountpoint, { recursive: true });
  const server = fork(join(import.meta.dirname, 'blob-server.js'), [JSON.stringify(request)]);
  const exited = once(server, 'exit');
  const first = await Promise.race([once(server, 'message'), exited]);
  if (first[0] !== 'mounted') throw new Error(`the mount of ${request.reference} ended with ${first[0]}`);
  return {
    async stats() {
      server.send('stats');
      return (await once(server, 'message'))[0] as BlobMountStats;
    },
    async unmount() {
      if (server.exitCode !== null) return;
      server.send('unmount');
      const end = await Promise.race([once(server, 'message'), exited]);
      if (typeof end[0] === 'object') throw new Error((end[0] as { error: string }).error);
    },
  };
}
