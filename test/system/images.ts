/**
 * Real multi-layer images made of Debian packages, for system tests and benchmarks.
 *
 * Each is an OCI layout directory with one image of three layers: a Debian base that all of them share, the
 * packages, and an application layer that also deletes files of the layers below (whiteouts, and directories made
 * anew). They are built once, by root, and kept in the test cache. `node dist/test/system/images.js [NAME…]`
 * builds and prints them.
 */
import { fileURLToPath } from 'node:url';
import { builtImage, type ImageRecipe } from './image-builder.js';

export type TestImageName = 'python' | 'node' | 'nginx' | 'postgres';

/** How to see that a container of the image works. */
export interface ImageCheck {
  /** Arguments in place of the image's Cmd; empty: the Cmd of the image. */
  command: readonly string[];
  /** What a container that ends by itself prints to stdout. */
  stdout?: string;
  /**
   * A server: it listens on 127.0.0.1 at the port that the environment variable PORT gives, answers `GET /` with
   * this body, and ends with exit code 0 after `stopSignal`.
   */
  http?: { body: string; stopSignal: NodeJS.Signals };
}

export interface TestImage {
  name: TestImageName;
  /** As users would call it, for `orca expand --name`. */
  reference: string;
  /** OCI layout directory, to be only read. */
  directory: string;
  /** The one reference name in it. */
  tag: string;
  check: ImageCheck;
}

const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

const images: Record<TestImageName, { reference: string; recipe: ImageRecipe; check: ImageCheck }> = {
  python: {
    reference: 'python:numpy',
    recipe: {
      compression: 'gzip',
      config: {
        Entrypoint: ['python3'],
        Cmd: ['/app/main.py'],
        Env: [PATH, 'LANG=C.UTF-8', 'PYTHONUNBUFFERED=1'],
        WorkingDir: '/app',
        User: 'app',
      },
    },
    check: { command: [], stdout: 'checksum 497995722 251616502500\n' },
  },
  node: {
    reference: 'node:18',
    recipe: {
      compression: 'zstd',
      config: {
        Entrypoint: ['node'],
        Cmd: ['main.js'],
        Env: [PATH, 'NODE_ENV=production', 'PORT=8080'],
        WorkingDir: '/srv/app',
        User: '1000:1000',
        ExposedPorts: { '8080/tcp': {} },
      },
    },
    check: { command: [], http: { body: 'node e0c924608fdcda85\n', stopSignal: 'SIGTERM' } },
  },
  nginx: {
    reference: 'nginx',
    recipe: {
      compression: 'gzip',
      config: {
        Entrypoint: ['/entrypoint.sh'],
        Cmd: ['nginx', '-g', 'daemon off;'],
        Env: [PATH, 'PORT=80'],
        WorkingDir: '/',
        ExposedPorts: { '80/tcp': {} },
        StopSignal: 'SIGQUIT',
      },
    },
    check: {
      command: [],
      http: { body: '<!doctype html><title>Orca</title><p>served by nginx\n', stopSignal: 'SIGTERM' },
    },
  },
  postgres: {
    reference: 'postgres:15',
    recipe: {
      compression: 'gzip',
      config: {
        Entrypoint: ['entrypoint.sh'],
        Cmd: ['postgres'],
        Env: [`${PATH}:/usr/lib/postgresql/15/bin`, 'LANG=C.UTF-8', 'PGDATA=/var/lib/postgresql/data'],
        WorkingDir: '/var/lib/postgresql',
        User: 'postgres',
        Volumes: { '/var/lib/postgresql/data': {} },
        StopSignal: 'SIGINT',
      },
    },
    check: {
      command: ['query', 'SELECT sum(n * n) FROM generate_series(1, 1000) AS n'],
      stdout: '333833500\n',
    },
  },
};

export const imageNames = Object.keys(images) as TestImageName[];

/** The image, built first if the test cache does not hold it. */
export async function testImage(name: TestImageName): Promise<TestImage> {
  const { reference, recipe, check } = images[name];
  return { name, reference, directory: await builtImage(name, recipe), tag: name, check };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const wanted = process.argv.length > 2 ? process.argv.slice(2) : imageNames;
  for (const name of wanted) {
    if (!Object.hasOwn(images, name)) throw new Error(`no test image "${name}"; there are ${imageNames}`);
    const began = performance.now();
    const { directory } = await testImage(name as TestImageName);
    console.log(
      `${name.padEnd(10)}${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${directory}`,
    );
  }
}
