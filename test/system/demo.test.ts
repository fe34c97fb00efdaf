/** The demo, as the README has it. */
import { readdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { mountsBelow } from '../cli/orca.js';
import { run } from './command.js';

const demo = new URL('../../demo/main.js', import.meta.url).pathname;

test.serial(
  'the demo runs its image unpacked and mounted, fetches less than all of it, and leaves nothing',
  async (t) => {
    const left = async () => (await readdir('/var/tmp')).filter((name) => name.startsWith('orca-demo-'));
    // Of a demo that was killed.
    const before = await left();
    const stdout = await run(process.execPath, [demo]);
    t.regex(stdout, /^ {2}Node v\S+ as app: 3 modules loaded, typescript deleted$/m);
    t.regex(stdout, /^unpack, then run +[\d.]+ s +[\d.]+ s +[\d.]+ MB, every blob$/m);
    const share = /^mount, then run +[\d.]+ s +[\d.]+ s +[\d.]+ MB, (\d+) % of the blobs$/m.exec(stdout)?.[1];
    t.true(Number(share) < 100, stdout);
    t.deepEqual(await mountsBelow('/var/tmp'), []);
    t.deepEqual(await left(), before);
  },
);

test.serial('without root it says so in one line', async (t) => {
  // The project may lie where only root can read it.
  const project = fileURLToPath(new URL('../../../', import.meta.url));
  const script = `
    mount --bind ${project} /mnt && cd / || exit 99
    exec setpriv --reuid 65534 --regid 65534 --clear-groups ${process.execPath} /mnt/dist/demo/main.js
  `;
  const message = /takes root: sudo npm run demo\n$/;
  await t.throwsAsync(run('unshare', ['--mount', 'sh', '-c', script]), { message });
});
