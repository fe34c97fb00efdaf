/** The python image as eStargz, by the peer's own tool, optimized for one command: its files come first in each layer. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../test/system/command.js';
import { ContainerdProcess } from '../../test/system/containerd-process.js';
import { DockerRegistry } from '../../test/system/docker-registry.js';
import { testImage } from '../../test/system/images.js';
import { builtOnce } from '../../test/system/test-cache.js';

/** Seconds for which the command is watched. */
const PERIOD = '10';

/** `directory:tag` of an OCI layout, made first if the test cache does not hold it. */
export async function estargzImage([entrypoint, ...args]: readonly string[]): Promise<string> {
  const { directory, tag } = await testImage('python');
  const key = createHash('sha256').update(await readFile(join(directory, 'index.json')));
  key.update(JSON.stringify([entrypoint, args, PERIOD]));
  const made = await builtOnce(`estargz-${key.digest('hex').slice(0, 16)}`, async (target, work) => {
    const registry = await DockerRegistry.start();
    const containerd = new ContainerdProcess(work);
    await containerd.start();
    try {
      const [plain, optimized] = [`${registry.host}/python:plain`, `${registry.host}/python:esgz`];
      await run('skopeo', [
        'copy',
        '--dest-tls-verify=false',
        `oci:${directory}:${tag}`,
        `docker://${plain}`,
      ]);
      const command = ['--entrypoint', JSON.stringify([entrypoint]), '--args', JSON.stringify(args)];
      await containerd.pushEstargz(plain, optimized, '--period', PERIOD, ...command);
      const options = ['--preserve-digests', '--src-tls-verify=false'];
      await run('skopeo', ['copy', ...options, `docker://${optimized}`, `oci:${target}:esgz`]);
    } finally {
      await containerd.stop();
      await registry.stop();
    }
  });
  return `${made}:esgz`;
}
