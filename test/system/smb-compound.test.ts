/** Files and layers of which the first bytes come with the CREATE, from the real smbd. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { layerPath } from '../../src/image/catalog.js';
import { Command, splitCompound } from '../../src/smb/header.js';
import { SmbSource, type SmbSourceOptions } from '../../src/source/smb-source.js';
import { random } from '../smb/random.js';
import { FrameProxy } from './frame-proxy.js';
import { Samba, type SambaOptions } from './samba.js';

const { seed, bytes } = random();
const MIB = 1 << 20;
const FILES: Record<string, Buffer> = {
  empty: Buffer.alloc(0),
  small: bytes(300),
  'blobs/one credit': bytes(65536),
  'blobs/more credits': bytes(200_001),
  'blobs/first read': bytes(MIB),
  'blobs/two reads': bytes(MIB + 1),
  'blobs/many reads': bytes(5 * MIB + 12_345),
};
const LAYER = `sha256:${'ab'.repeat(32)}`;
let directory: string;

test.before(async (t) => {
  t.log(`seed ${seed}`);
  directory = await mkdtemp(join(tmpdir(), 'orca-compound-'));
  const files = { ...FILES, [layerPath(LAYER)]: FILES['blobs/many reads']! };
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(directory, name)), { recursive: true });
    await writeFile(join(directory, name), content);
  }
});

test.after.always(() => rm(directory, { recursive: true, force: true }));

/** A source behind a proxy, and the commands of each packet that the server sends in the clear. */
async function open(
  t: ExecutionContext,
  server: Omit<SambaOptions, 'shares'>,
  more: Partial<SmbSourceOptions> = {},
) {
  const samba = await Samba.start({ shares: { store: { path: directory } }, ...server });
  t.teardown(() => samba.stop());
  const proxy = await FrameProxy.start(samba.port);
  t.teardown(() => proxy.stop());
  const { host, username, password } = samba;
  const source = new SmbSource({
    host,
    port: proxy.port,
    share: 'store',
    path: '',
    location: 'smb://server/store',
    credentials: { username, password },
    ...more,
  });
  t.teardown(() => source.close());
  await source.connect();
  const packets: number[][] = [];
  proxy.fault = (frame) => {
    if (frame[0] === 0xfe) packets.push(splitCompound(frame).map(({ header }) => header.command));
    return [frame];
  };
  return { source, packets };
}

const ONE_CREDIT = 'one credit at a time';
const SERVERS: [string, Omit<SambaOptions, 'shares'>, Partial<SmbSourceOptions>?][] = [
  ['encryption off', { encryption: 'off' }],
  ['encryption required', { encryption: 'required' }],
  ['encryption by AES-256-CCM', { encryption: 'required', ciphers: ['AES-256-CCM'] }],
  ['signing by AES-128-GMAC', { signing: 'required', signingAlgorithms: ['AES-128-GMAC'] }],
  ['signing by AES-128-CMAC', { signing: 'required', signingAlgorithms: ['AES-128-CMAC'] }],
  ['signing by HMAC-SHA256', { signing: 'required', signingAlgorithms: ['HMAC-SHA256'] }],
  ['SMB 2.1', { signing: 'required' }, { dialects: ['2.1'] }],
  ['SMB 3.0.2', { signing: 'required' }, { dialects: ['3.0.2'] }],
  ['SMB 3.0.2, encrypted', { encryption: 'required' }, { dialects: ['3.0.2'] }],
  [ONE_CREDIT, { settings: { 'smb2 max credits': '1' } }],
];

for (const [which, server, more] of SERVERS) {
  test.serial(`files and layers are read right: ${which}`, async (t) => {
    const { source, packets } = await open(t, server, more);
    const read = async (name: string) => {
      const content = FILES[name]!;
      for (const most of [content.length, 64 * MIB])
        t.true(content.equals(await source.readFile(name, most)), `${name}, at most ${most}`);
      if (content.length === 0) return;
      await t.throwsAsync(source.readFile(name, content.length - 1), { code: 'TOO_LARGE' }, name);
    };
    for (const name of Object.keys(FILES)) await read(name);
    await Promise.all(Object.keys(FILES).map(read));
    await t.throwsAsync(source.readFile('none', 100), { code: 'NOT_FOUND' });
    await t.throwsAsync(source.readFile('none/none', 100), { code: 'NOT_FOUND' });
    await t.throwsAsync(source.readFile('blobs', 100), { code: 'IS_A_DIRECTORY' });

    const content = FILES['blobs/many reads']!;
    for (const [offset, length] of [
      [0, 131_072],
      [MIB, 2 * MIB],
      [content.length - 10, 10],
    ] as const) {
      const layer = await source.openLayer(LAYER, undefined, { offset, length });
      t.is(layer.size, content.length);
      for (const at of [offset, 77, offset])
        t.true(
          content
            .subarray(at, at + length)
            .equals(await layer.read(at, Math.min(length, content.length - at))),
        );
      await layer.close();
    }
    const beyond = await source.openLayer(LAYER, undefined, { offset: content.length + 5, length: 10 });
    t.true(content.equals(await beyond.read(0, content.length)));
    await beyond.close();
    if (which === ONE_CREDIT)
      t.true(
        packets.every((commands) => commands.length === 1),
        `${packets}`,
      );
  });
}

test.serial('a small file is one packet of the server, as is the first read of a layer', async (t) => {
  const { source, packets } = await open(t, { encryption: 'off' });
  await source.readFile('small', 64 * MIB);
  t.deepEqual(packets[0], [Command.CREATE, Command.READ]);
  await source.readFile('blobs/first read', MIB);
  const length = 131_072;
  const layer = await source.openLayer(LAYER, undefined, { offset: 4 * MIB, length });
  await layer.read(4 * MIB, length);
  await layer.close();
  t.deepEqual(
    packets.filter(([command]) => command !== Command.CLOSE),
    Array(3).fill([Command.CREATE, Command.READ]),
  );
});
