/**
 * The far side of a measurement: an `orca registry` that has the images pushed and expanded, and the smbd of its shares.
 * Both are reached through links of one speed: pulls and mounts have the same network. The data directory is kept in
 * the test cache, since pushing and expanding gigabytes takes minutes.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { packageFile } from '../src/installation.js';
import { run } from '../test/system/command.js';
import { freePort } from '../test/system/free-port.js';
import { startOrca } from '../test/system/orca-command.js';
import { ShareServer } from '../test/system/share-server.js';
import { builtOnce, testCache } from '../test/system/test-cache.js';
import { type BuiltImage, warmUpImage } from './images/table-images.js';
import { Link, type LinkSpeed } from './link/link.js';

/** Repository of an image that is in no other one: what a host has run before it is measured. */
export const WARM_UP = 'warm-up';

/**
 * Data directory of a registry that has the images, by repository, pushed and expanded; and one more, for warming up.
 * Those of the same name that other images or other code have made are removed.
 */
export async function registryData(
  name: string,
  images: Readonly<Record<string, BuiltImage>>,
  progress: (text: string) => void,
): Promise<string> {
  const all = { ...images, [WARM_UP]: await warmUpImage() };
  const prefix = `registry-${name}-`;
  const directory = `${prefix}${await keyOf(all)}`;
  for (const old of await readdir(testCache).catch(() => [])) {
    if (old.startsWith(prefix) && old !== directory && !old.endsWith('.lock'))
      await rm(join(testCache, old), { recursive: true });
  }
  return builtOnce(directory, async (made) => {
    const registry = await Registry.start(made, ['--share', 'smb://127.0.0.1:1/orca-']);
    try {
      for (const [repository, { directory: layout, tag }] of Object.entries(all)) {
        progress(`pushing and expanding ${repository}`);
        const target = `docker://${registry.host}/${repository}:${tag}`;
        await run('skopeo', ['copy', '--quiet', '--dest-tls-verify=false', `oci:${layout}:${tag}`, target]);
        await registry.expanded(repository, tag);
      }
    } finally {
      await registry.stop();
    }
  });
}

/** What was expanded by other code is expanded again. */
async function keyOf(images: Readonly<Record<string, BuiltImage>>): Promise<string> {
  const hash = createHash('sha256');
  for (const [repository, { directory }] of Object.entries(images))
    hash.update(repository).update(await readFile(join(directory, 'index.json')));
  for (const folder of ['layer', 'erofs', 'vhd', 'image', 'registry/expansion']) {
    const path = packageFile(`dist/src/${folder}`);
    for (const file of (await readdir(path)).filter((name) => name.endsWith('.js')).sort())
      hash.update(await readFile(join(path, file)));
  }
  return hash.digest('hex').slice(0, 16);
}

/** A registry and its shares behind two links. */
export class ImageServer {
  private constructor(
    /** HOST:PORT of the registry, as hosts reach it. */
    readonly host: string,
    private readonly links: readonly Link[],
    private readonly ends: readonly (() => Promise<unknown>)[],
  ) {}

  static async start(work: string, data: string, speed: LinkSpeed): Promise<ImageServer> {
    const ends: (() => Promise<unknown>)[] = [];
    try {
      const shares = await ShareServer.start(data, await freePort());
      ends.unshift(() => shares.stop());
      const shareLink = await Link.open(work, shares.port, speed);
      ends.unshift(() => shareLink.close());
      const registry = await Registry.start(data, ['--share', `smb://127.0.0.1:${shareLink.port}/orca-`]);
      ends.unshift(() => registry.stop());
      const link = await Link.open(work, registry.port, speed);
      ends.unshift(() => link.close());
      return new ImageServer(`127.0.0.1:${link.port}`, [shareLink, link], ends);
    } catch (error) {
      for (const end of ends) await end();
      throw error;
    }
  }

  /** Through both links, in both directions. */
  async bytes(): Promise<number> {
    const counts = await Promise.all(this.links.map((link) => link.bytes()));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  async stop(): Promise<void> {
    for (const end of this.ends) await end();
  }
}

class Registry {
  private constructor(
    readonly port: number,
    private readonly process: ReturnType<typeof startOrca>,
  ) {}

  static async start(data: string, options: readonly string[]): Promise<Registry> {
    const port = await freePort();
    const listen = ['--listen', `127.0.0.1:${port}`, '--log-level', 'warn'];
    const started = startOrca(['registry', '--data', data, ...listen, ...options]);
    const registry = new Registry(port, started);
    let ended: string | undefined;
    void started.ended.then(({ stderr }) => {
      ended = stderr;
    });
    for (;;) {
      if (await fetch(`http://${registry.host}/v2/`).catch(() => undefined)) return registry;
      if (ended !== undefined) throw new Error(`orca registry ended: ${ended}`);
      await sleep(20);
    }
  }

  get host(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Waits until the image is expanded. */
  async expanded(repository: string, tag: string): Promise<void> {
    const manifest = await fetch(`http://${this.host}/v2/${repository}/manifests/${tag}`, {
      headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
    });
    const digest = manifest.headers.get('docker-content-digest');
    for (;;) {
      const answer = await fetch(`http://${this.host}/orca/v1/${repository}/_expansion/${digest}`);
      const { state, reason } = (await answer.json()) as { state?: string; reason?: string };
      if (state === 'expanded') return;
      if (state === 'failed') throw new Error(`expansion failed: ${reason}`);
      await sleep(200);
    }
  }

  async stop(): Promise<void> {
    this.process.kill('SIGTERM');
    await this.process.ended;
  }
}
