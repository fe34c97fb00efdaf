/** The units under a real systemd: that of Debian 12, and one that keeps descriptors over a stop, of Debian 13. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { addImage, content } from '../source/store-fixture.js';
import { run } from './command.js';
import { SystemdHost } from './systemd-host.js';

const repository = fileURLToPath(new URL('../../../', import.meta.url));
const FSTAB = `app:1 /opt/app fuse.orca store=/srv/store,_netdev,nofail 0 0
app:1 /opt/auto fuse.orca store=/srv/store,_netdev,nofail,x-systemd.automount 0 0
`;

test.before(async () => {
  for (const script of ['bundle.js', 'deploy/man.js'])
    await run(process.execPath, [script], { cwd: repository });
});

for (const suite of ['bookworm', 'trixie']) {
  test.serial(
    `mounts outlive the daemon under systemd of ${suite}, until their users have ended`,
    async (t) => {
      t.timeout(10 * 60_000);
      const host = await SystemdHost.install(suite, FSTAB);
      t.teardown(() => host.remove());
      const files = Object.fromEntries(
        Array.from({ length: 40 }, (_, index) => [`f${index}`, content(`${index}`, 100_000 + index * 4096)]),
      );
      await addImage(join(host.srv, 'store'), 'app:1', [files]);
      await host.boot();
      t.log((await host.sh('systemctl --version')).split('\n')[0]);
      const mounted = async () =>
        (await host.sh('findmnt --noheadings --list --output TARGET --types fuse.orca || true'))
          .split('\n')
          .filter(Boolean)
          .sort();
      t.deepEqual(await mounted(), ['/opt/app'], 'what fstab says');
      t.regex(await host.sh('systemctl show --property=After opt-app.mount'), /remote-fs-pre\.target/);
      t.is((await host.sh('ls /opt/auto')).split('\n').filter(Boolean).length, 40);
      t.deepEqual(await mounted(), ['/opt/app', '/opt/auto'], 'what fstab says, when it is looked at');

      await host.sh('orca mount app:1 /mnt --store /srv/store');
      const reports = ['/opt/app', '/mnt'].map((directory, index) => ({ directory, name: `report${index}` }));
      for (const { directory, name } of reports) {
        const unit = `--quiet --unit=${name} --property=RequiresMountsFor=${directory}`;
        await host.sh(`systemd-run ${unit} node /srv/reader.mjs ${directory} /srv/${name}`);
      }
      const linesOf = async (name: string) =>
        (await readFile(join(host.srv, name), 'utf8').catch(() => '')).split('\n').filter(Boolean);
      /** Resolves when every reader has begun and ended another round. */
      const read = async () => {
        for (const { name } of reports) {
          const { length } = await linesOf(name);
          while ((await linesOf(name)).length < length + 2) await sleep(50);
        }
      };
      await read();
      for (const event of [
        'systemctl kill --signal=KILL orca.service',
        'systemctl restart orca.service',
        'orca daemon --replace',
        'systemctl kill --signal=KILL orca.service',
      ]) {
        const before = await host.mainPid('orca.service');
        await host.sh(event);
        if (event.startsWith('systemctl'))
          while ((await host.mainPid('orca.service')) === before) await sleep(50);
        await host.sh('orca ps');
        await read();
      }
      const journal = await host.sh('journalctl --unit=orca.service --output=cat');
      t.is(journal.match(/serving the mounts of an earlier daemon/g)?.length, 4, journal);
      t.is(await host.sh('systemctl show --property=NFileDescriptorStore --value orca.service'), '2\n');

      await host.powerOff();
      for (const { name } of reports) {
        const lines = await linesOf(name);
        t.deepEqual(
          lines.filter((line) => !/^\d+$/.test(line)),
          ['ended'],
          'reads to the end without an error',
        );
      }
      await host.boot();
      t.deepEqual(await mounted(), ['/opt/app'], 'after a boot');
      t.regex(await host.sh('orca ps'), /^.*\n.* \/opt\/app\n$/);
    },
  );
}
