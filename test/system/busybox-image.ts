/** Small images that a container can run: busybox, with some of its applets as links. */
import { copyFile, mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { orca } from '../cli/orca.js';
import { packLayer, writeLayout } from './layout-writer.js';

export interface BusyboxOptions {
  applets: readonly string[];
  config: Record<string, unknown>;
}

/** Makes one in `work`; resolves with the OCI layout and its tag, as skopeo takes it after `oci:`. */
export async function busyboxImage(
  work: string,
  tag: string,
  { applets, config }: BusyboxOptions,
): Promise<string> {
  const [layout, root] = [join(work, tag), join(work, `${tag}-root`)];
  const blobs = join(layout, 'blobs/sha256');
  for (const folder of [join(root, 'bin'), join(root, 'etc'), blobs])
    await mkdir(folder, { recursive: true });
  await copyFile('/bin/busybox', join(root, 'bin/busybox'));
  for (const applet of applets) await symlink('busybox', join(root, 'bin', applet));
  await writeLayout(layout, tag, config, [await packLayer(root, blobs, 'gzip', tag)]);
  return `${layout}:${tag}`;
}

/** An image of a process that waits, in which a pod's other containers live. */
export function pauseImage(work: string): Promise<string> {
  const config = { Entrypoint: ['/bin/sleep', '100000'] };
  return busyboxImage(work, 'pause', { applets: ['sleep'], config });
}

/** Expands `busybox` into the store; `work` gets what it is made of. */
export async function expandBusybox(
  work: string,
  store: string,
  applets: readonly string[] = ['sh', 'sleep', 'cat'],
): Promise<void> {
  const config = { Cmd: ['sh', '-c', 'echo hello'] };
  const image = await busyboxImage(work, 'busybox', { applets, config });
  const { code, stderr } = await orca(['expand', `oci:${image}`, '--store', store]);
  if (code !== 0) throw new Error(stderr);
}
