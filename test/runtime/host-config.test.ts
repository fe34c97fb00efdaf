import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { parseHostConfig, readHostConfig } from '../../src/runtime/host-config.js';
import { RuntimeError } from '../../src/runtime/runtime-error.js';

const NONE = { insecureRegistries: [], mirrors: {}, registryCas: {} };

test('every key has its place', async (t) => {
  const config = await parseHostConfig(
    `
# where this host is
region = "west"
cache = "/srv/cache"
cache-size = "20G"
run-dir = "/srv/run"
wait = "90s"
preload = false
profiles = "share"
background = "16M"
transports = ["smb", "https"]
insecure-registries = ["one:5000"]
registry-ca = "/etc/ssl/own.pem"

[mirrors]
"docker.io" = ["https://mirror.example"]

[registry."two.example:5000"]
ca = "/etc/ssl/two.pem"
insecure = true
mirrors = ["http://three", "http://four"]
`,
    'c.toml',
  );
  t.deepEqual(config, {
    region: 'west',
    cache: '/srv/cache',
    cacheSize: 20 * 2 ** 30,
    runDir: '/srv/run',
    wait: 90_000,
    preload: false,
    profiles: 'share',
    background: 16 << 20,
    transports: ['smb', 'https'],
    insecureRegistries: ['one:5000', 'two.example:5000'],
    registryCa: '/etc/ssl/own.pem',
    mirrors: { 'docker.io': ['https://mirror.example'], 'two.example:5000': ['http://three', 'http://four'] },
    registryCas: { 'two.example:5000': '/etc/ssl/two.pem' },
  });
  t.deepEqual(await parseHostConfig('', 'c.toml'), NONE);
});

for (const [text, message] of [
  ['region = "a"\n\nregoin = "b"', /^c\.toml:3: regoin is unknown; known here: region, /],
  [
    '[registry."x:1"]\nca = "a"\n\n  cert = "b"',
    /^c\.toml:4: registry\.x:1\.cert is unknown; known here: ca, /,
  ],
  ['x = 1\n[registry.x]\nx = 2', /^c\.toml:1: x is unknown/],
  ['[registry]\n"a.b" = { insecure = true, key = 1 }', /^c\.toml:2: registry\.a\.b\.key is unknown/],
  ['registry."h".colour = 1', /^c\.toml:1: registry\.h\.colour is unknown/],
  ['[registri.x]\nca = "a"', /^c\.toml:1: registri is unknown/],
  ['\n[[region]]', /^c\.toml:2: region must be a string/],
  ['region = ""', /^c\.toml:1: region must be a string/],
  ['cache-size = "20X"', /^c\.toml:1: cache-size must be a size/],
  ['wait = true', /^c\.toml:1: wait must be a string/],
  ['transports = ["nfs"]', /^c\.toml:1: transports must be a list of smb, https and blob/],
  ['insecure-registries = "a"', /^c\.toml:1: insecure-registries must be a list of strings/],
  ['mirrors = 1', /^c\.toml:1: mirrors must be a table/],
  ['mirrors = 2024-01-01', /^c\.toml:1: mirrors must be a table/],
  ['[registry.a]\ninsecure = "yes"', /^c\.toml:2: registry\.a\.insecure must be true or false/],
  ['region = "a"\nregion = "b"', /^c\.toml:2: /],
  ['a\nb', /^c\.toml:1: /],
  ['__proto__ = 1', /^c\.toml:1: __proto__ is unknown/],
] as const) {
  test(`${JSON.stringify(text)} is refused, with the line`, async (t) => {
    const error = await t.throwsAsync(parseHostConfig(text, 'c.toml'), { instanceOf: RuntimeError });
    t.is(error?.code, 'INVALID_CONFIG');
    t.regex(error?.message ?? '', message);
  });
}

test('a file that is named must be there', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'orca-host-config-'));
  const path = join(directory, 'config.toml');
  const error = await t.throwsAsync(readHostConfig(path), { instanceOf: RuntimeError });
  t.regex(error?.message ?? '', /config\.toml cannot be read \(ENOENT\)/);
  await writeFile(path, 'region = "west"');
  t.is((await readHostConfig(path)).region, 'west');
  await rm(directory, { recursive: true });
});
