import { readdir, readFile } from 'node:fs/promises';
import test from 'ava';

const units = (await readdir('deploy/systemd')).filter((name) => name.endsWith('.service'));

/** systemd.exec(5): each of them gives the service a mount namespace, and what is mounted there stays there. */
const NAMESPACE =
  /^(Private(Tmp|Devices|Mounts|Users|IPC)|Protect(System|Home|Proc|KernelTunables|KernelModules|KernelLogs|ControlGroups)|ProcSubset|Read(Only|Write)Paths|InaccessiblePaths|(No)?ExecPaths|TemporaryFileSystem|Bind(ReadOnly)?Paths|Root(Directory|Image)|MountFlags|MountImages|ExtensionImages|DynamicUser|LogNamespace)=/m;

for (const name of units) {
  test(`${name} mounts where everybody sees it, and comes back when it dies`, async (t) => {
    const text = await readFile(`deploy/systemd/${name}`, 'utf8');
    t.notRegex(text, NAMESPACE);
    t.regex(text, /^Restart=always$/m);
    t.regex(text, /^Type=notify$/m);
    t.regex(text, /^CapabilityBoundingSet=.*\bCAP_SYS_ADMIN\b/m);
    t.regex(text, /^DeviceAllow=\/dev\/fuse rw$/m);
  });
}

test('the example of the configuration file is one that orca takes, also with everything in it', async (t) => {
  const { parseHostConfig } = await import('../../src/runtime/host-config.js');
  const text = await readFile('deploy/config.toml', 'utf8');
  await t.notThrowsAsync(parseHostConfig(text, 'config.toml'));
  const all = text.replace(/^#(?=\S)/gm, '');
  const config = await parseHostConfig(all, 'config.toml');
  t.like(config, { region: 'west', cache: '/var/cache/orca', runDir: '/var/lib/orca/run' });
});
