/** `orca run` of real images from a Samba share, plain and with encryption required. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { freePort } from './free-port.js';
import { type ImageCheck, imageNames, type TestImage, testImage } from './images.js';
import { orca, startOrca } from './orca-command.js';
import { Samba } from './samba.js';

/** A container on a busy machine, from the cold share. */
const START_TIMEOUT = 120_000;

let work: string;

test.before(async (t) => {
  t.timeout(20 * 60_000);
  work = await mkdtemp(join(tmpdir(), 'orca-run-images-'));
  for (const name of imageNames) {
    const { directory, tag, reference } = await testImage(name);
    const { code, stdout, stderr } = await orca([
      'expand',
      `oci:${directory}:${tag}`,
      ...['--store', join(work, 'store'), '--name', reference],
    ]);
    t.is(code, 0, stderr);
    t.regex(stdout, /sha256:[0-9a-f]{64}/);
  }
});

test.after.always(() => rm(work, { recursive: true, force: true }));

for (const encryption of ['off', 'required'] as const) {
  test.serial(
    `Python, Node, nginx and PostgreSQL run from a share with encryption ${encryption}`,
    async (t) => {
      t.timeout(20 * 60_000);
      const samba = await Samba.start({ shares: { store: { path: join(work, 'store') } }, encryption });
      const directory = join(work, `encryption-${encryption}`);
      const env = {
        ORCA_SMB_USER: samba.username,
        ORCA_SMB_PASSWORD: samba.password,
        ORCA_STORE: samba.url('store'),
        ORCA_CACHE: join(directory, 'cache'),
        ORCA_RUN_DIR: join(directory, 'run'),
      };
      try {
        for (const name of imageNames) await runImage(t, await testImage(name), env);
      } finally {
        await samba.stop();
      }
      t.false((await readFile('/proc/self/mounts', 'utf8')).includes(directory), 'nothing stays mounted');
      t.deepEqual(await readdir(join(env.ORCA_RUN_DIR, 'containers')), []);
    },
  );
}

async function runImage(t: ExecutionContext, image: TestImage, env: NodeJS.ProcessEnv): Promise<void> {
  const { check, reference } = image;
  if (check.http !== undefined) return runServer(t, image, check.http, env);
  const { code, stdout, stderr } = await orca(['run', '--rm', reference, ...check.command], env);
  t.is(code, 0, `${reference}: ${stderr}`);
  t.is(stdout, check.stdout ?? '', `${reference}: ${stderr}`);
}

async function runServer(
  t: ExecutionContext,
  { reference, check: { command } }: TestImage,
  { body, stopSignal }: NonNullable<ImageCheck['http']>,
  env: NodeJS.ProcessEnv,
): Promise<void> {
  const port = await freePort();
  const server = startOrca(
    ['run', '--rm', '-e', `PORT=${port}`, '--net', 'host', reference, ...command],
    env,
  );
  let running = true;
  void server.ended.then(() => {
    running = false;
  });
  let answer: string | undefined;
  for (const began = Date.now(); running && answer === undefined && Date.now() - began < START_TIMEOUT; ) {
    answer = await fetch(`http://127.0.0.1:${port}/`).then(
      (response) => response.text(),
      () => undefined,
    );
    if (answer === undefined) await sleep(50);
  }
  server.kill(stopSignal);
  const { code, stderr } = await server.ended;
  t.is(answer, body, `${reference}: ${stderr}`);
  t.is(code, 0, `${reference}: ${stderr}`);
}
