/** The SMB client against the real smbd. */
import { mkdir, mkdtemp, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { CIPHERS, type Cipher, SIGNING_ALGORITHMS, type SigningAlgorithm } from '../../src/smb/algorithms.js';
import { SmbClient, type SmbClientOptions } from '../../src/smb/client.js';
import { smbCredentials } from '../../src/smb/credentials.js';
import type { SmbError } from '../../src/smb/error.js';
import { HEADER, HeaderFlag } from '../../src/smb/header.js';
import { random } from '../smb/random.js';
import { FrameProxy } from './frame-proxy.js';
import { Samba, type SambaOptions } from './samba.js';

const SIZE = 24 * 1024 * 1024 + 4321;
const ENTRIES = 3000;
const NAMES = ['häßlich.txt', '中文', 'naïve — dash', 'emoji 😀.bin', 'a b'];
const { seed, below, bytes } = random();

let directory: string;
let big: Buffer;

test.before(async (t) => {
  t.log(`seed ${seed}`);
  directory = await mkdtemp(join(tmpdir(), 'orca-smb-'));
  const block = bytes(1 << 16);
  big = Buffer.alloc(SIZE);
  // Every 64 KiB differs, so that bytes of a wrong offset are noticed.
  for (let at = 0, i = 0; at < SIZE; at += block.length, i++) {
    block.copy(big, at);
    if (at + 4 <= SIZE) big.writeUInt32LE(i, at);
  }
  await writeFile(join(directory, 'big.bin'), big);
  await writeFile(join(directory, 'empty'), '');
  await mkdir(join(directory, 'many'));
  for (let i = 0; i < ENTRIES; i++) await writeFile(join(directory, 'many', `layer-${i}.vhd`), String(i));
  await mkdir(join(directory, 'names'));
  for (const name of NAMES) await writeFile(join(directory, 'names', name), name);
});

test.after.always(() => rm(directory, { recursive: true, force: true }));

async function samba(
  t: ExecutionContext,
  options: Omit<SambaOptions, 'shares'> = {},
  shares?: SambaOptions['shares'],
) {
  const server = await Samba.start({ shares: shares ?? { store: { path: directory } }, ...options });
  t.teardown(() => server.stop());
  return server;
}

async function client(t: ExecutionContext, server: Samba, options: Partial<SmbClientOptions> = {}) {
  const { host, port, username, password } = server;
  const credentials = smbCredentials({ username, password });
  const connected = await SmbClient.connect({ host, port, share: 'store', credentials, ...options });
  t.teardown(() => connected.close());
  return connected;
}

async function readsRight(t: ExecutionContext, smb: SmbClient): Promise<void> {
  const file = await smb.open('big.bin');
  t.is(file.size, SIZE);
  t.is(Buffer.compare(await file.read(0, SIZE), big), 0, 'the whole file');
  for (let i = 0; i < 20; i++) {
    const offset = below(SIZE);
    const length = Math.min(SIZE - offset, below(300_000));
    t.is(
      Buffer.compare(await file.read(offset, length), big.subarray(offset, offset + length)),
      0,
      `${offset}+${length}`,
    );
  }
  await file.close();
  await t.throwsAsync(file.read(0, 1), { code: 'CLOSED' });
}

for (const algorithm of Object.keys(SIGNING_ALGORITHMS) as SigningAlgorithm[]) {
  test.serial(`reads are right with signing required, by ${algorithm}`, async (t) => {
    const server = await samba(t, { signing: 'required', signingAlgorithms: [algorithm] });
    const smb = await client(t, server);
    t.like(smb.negotiated, { dialect: '3.1.1', signing: algorithm, cipher: undefined });
    await readsRight(t, smb);
  });
}

for (const cipher of Object.keys(CIPHERS) as Cipher[]) {
  test.serial(`reads are right with encryption required, by ${cipher}`, async (t) => {
    const server = await samba(t, { encryption: 'required', ciphers: [cipher] });
    const smb = await client(t, server);
    t.like(smb.negotiated, { dialect: '3.1.1', cipher });
    await readsRight(t, smb);
  });
}

for (const [dialect, maxProtocol, signing] of [
  ['2.1', 'SMB2_10', 'HMAC-SHA256'],
  ['3.0.2', 'SMB3_02', 'AES-128-CMAC'],
] as const) {
  test.serial(`reads are right with SMB ${dialect}`, async (t) => {
    const smb = await client(t, await samba(t, { maxProtocol, signing: 'required' }));
    t.like(smb.negotiated, { dialect, signing, cipher: undefined });
    await readsRight(t, smb);
  });
}

test.serial('SMB 3.0.2 encrypts by AES-128-CCM', async (t) => {
  const smb = await client(t, await samba(t, { maxProtocol: 'SMB3_02', encryption: 'required' }));
  t.like(smb.negotiated, { dialect: '3.0.2', cipher: 'AES-128-CCM' });
  await readsRight(t, smb);
});

test.serial('a share that demands encryption gets it, and so does a caller', async (t) => {
  const shares = { store: { path: directory, encryption: 'required' as const }, plain: { path: directory } };
  const server = await samba(t, {}, shares);
  t.is((await client(t, server)).negotiated.cipher, 'AES-128-GCM');
  t.is((await client(t, server, { share: 'plain' })).negotiated.cipher, undefined);
  const asked = await client(t, server, { share: 'plain', encryption: 'required' });
  t.is(asked.negotiated.cipher, 'AES-128-GCM');
  await readsRight(t, asked);
});

test.serial('what cannot be encrypted but has to be is refused with the reason', async (t) => {
  const strict = await samba(t, { encryption: 'required' });
  await t.throwsAsync(client(t, strict, { dialects: ['2.1'] }), {
    code: 'ACCESS_DENIED',
    message: /encryption, which SMB 2\.1/,
  });
  const off = await samba(t, { encryption: 'off' });
  await t.throwsAsync(client(t, off, { encryption: 'required' }), { code: 'ENCRYPTION_UNAVAILABLE' });
  const modern = await samba(t, { minProtocol: 'SMB3_11' });
  await t.throwsAsync(client(t, modern, { dialects: ['2.1', '3.0.2'] }), { code: 'DIALECT_UNSUPPORTED' });
});

test.serial('wrong password, unknown user, unknown share, missing file: each says what failed', async (t) => {
  const server = await samba(
    t,
    { users: { alice: 'a-password', bob: 'b-password' } },
    { store: { path: directory }, private: { path: directory, users: ['bob'] } },
  );
  const { host, port } = server;
  const at = `${host}:${port}`;
  const as = (username: string, password: string) => ({
    credentials: smbCredentials({ username, password }),
  });
  await t.throwsAsync(client(t, server, as('alice', 'hunter2')), {
    code: 'BAD_CREDENTIALS',
    message: `login as alice to smb://${at}/store was refused (STATUS_LOGON_FAILURE); check the user name and password`,
  });
  await t.throwsAsync(client(t, server, as('nobody-of-this-name', 'hunter2')), { code: 'BAD_CREDENTIALS' });
  await t.throwsAsync(client(t, server, { share: 'nix' }), {
    code: 'SHARE_NOT_FOUND',
    message: /no share "nix"/,
  });
  await t.throwsAsync(client(t, server, { share: 'private' }), { code: 'ACCESS_DENIED' });
  await t.notThrowsAsync(client(t, server, { share: 'private', ...as('bob', 'b-password') }));
  const smb = await client(t, server);
  const errors: [string, string][] = [
    ['none', 'NOT_FOUND'],
    ['none/none', 'NOT_FOUND'],
    ['many', 'IS_A_DIRECTORY'],
    ['../x', 'INVALID_PATH'],
    ['a:b', 'INVALID_PATH'],
  ];
  for (const [path, code] of errors) await t.throwsAsync(smb.open(path), { code }, path);
  await t.throwsAsync(smb.readdir('big.bin'), { code: 'NOT_A_DIRECTORY' });
});

test.serial('a DFS link and a symbolic link out of the share say what they are', async (t) => {
  const shared = join(directory, 'links');
  await mkdir(shared);
  await symlink('msdfs:other\\share', join(shared, 'dfs'));
  await symlink('/etc/passwd', join(shared, 'out'));
  const server = await samba(
    t,
    { settings: { 'host msdfs': 'yes', 'msdfs root': 'yes' } },
    { store: { path: shared } },
  );
  const smb = await client(t, server);
  await t.throwsAsync(smb.open('dfs/file'), { code: 'DFS', message: /lies on another server/ });
  await t.throwsAsync(smb.open('out'), { code: 'NOT_FOUND' });
});

test.serial('a guest is refused, and taken when the caller says so', async (t) => {
  const server = await samba(t, { mapToGuest: true }, { store: { path: directory, guest: true } });
  const credentials = smbCredentials({ username: 'who', password: 'x' });
  await t.throwsAsync(client(t, server, { credentials }), {
    code: 'GUEST_REFUSED',
    message: /took who as a guest only/,
  });
  const guest = await client(t, server, { credentials, allowGuest: true });
  t.is(guest.negotiated.signing, undefined);
  await readsRight(t, guest);
  const anonymous = smbCredentials({ username: '', password: '' });
  await t.throwsAsync(client(t, server, { credentials: anonymous }), {
    code: 'GUEST_REFUSED',
    message: /no user name/,
  });
});

test.serial('a hundred reads at once, of files and places, all come back right', async (t) => {
  const smb = await client(t, await samba(t, { encryption: 'required' }));
  const file = await smb.open('big.bin');
  const { signal } = new AbortController();
  const reads = Array.from({ length: 100 }, async (_, i) => {
    const offset = below(SIZE - 1_300_000);
    const length = 1 + below(1_300_000);
    const other = await smb.open(`many/layer-${i}.vhd`, signal);
    const [data, small] = await Promise.all([
      file.read(offset, length, signal),
      other.read(0, other.size, signal),
    ]);
    await other.close();
    t.is(String(Buffer.from(small)), String(i));
    return Buffer.compare(data, big.subarray(offset, offset + length)) === 0;
  });
  t.true((await Promise.all(reads)).every((right) => right));
});

test.serial('an aborted read ends at once, and the connection goes on', async (t) => {
  const smb = await client(t, await samba(t));
  const file = await smb.open('big.bin');
  const abort = new AbortController();
  const read = file.read(0, SIZE, abort.signal);
  setImmediate(() => abort.abort(new Error('enough')));
  await t.throwsAsync(read, { message: 'enough' });
  t.is((await file.read(5, 10)).length, 10);
  await t.throwsAsync(file.read(SIZE - 1, 2), { instanceOf: RangeError });
  const empty = await smb.open('empty');
  t.is((await empty.read(0, 0)).length, 0);
});

test.serial('a directory of 3000 entries and names beyond ASCII are listed and opened', async (t) => {
  const smb = await client(t, await samba(t));
  const many = await smb.readdir('many');
  t.is(new Set(many.map(({ name }) => name)).size, ENTRIES);
  t.true(
    many.every(({ name, size, isDirectory }) => !isDirectory && size === name.replace(/\D/g, '').length),
  );
  t.deepEqual((await smb.readdir('/names')).map(({ name }) => name).sort(), [...NAMES].sort());
  for (const name of NAMES) {
    const file = await smb.open(`names/${name}`);
    t.is(Buffer.from(await file.read(0, file.size)).toString(), name);
  }
  t.like(await smb.stat('big.bin'), { size: SIZE, isDirectory: false, links: 1 });
  t.true((await smb.stat('')).isDirectory);
});

for (const encryption of ['required', 'off'] as const) {
  test.serial(
    `a server killed and restarted in the middle of reads only delays them (encryption ${encryption})`,
    async (t) => {
      const server = await samba(t, { encryption });
      const smb = await client(t, server);
      const file = await smb.open('big.bin');
      let restarted = 0;
      let reads = 0;
      const reader = async () => {
        while (restarted < 2 || reads < 200) {
          const offset = below(SIZE - 400_000);
          const length = 1 + below(400_000);
          const data = await file.read(offset, length);
          reads++;
          if (Buffer.compare(data, big.subarray(offset, offset + length)) !== 0)
            throw new Error('wrong bytes');
        }
      };
      const restarts = async () => {
        for (; restarted < 2; restarted++) {
          await sleep(150);
          await server.restart(300);
        }
      };
      await t.notThrowsAsync(Promise.all([restarts(), ...Array.from({ length: 8 }, reader)]));
      t.is(Buffer.compare(await file.read(0, SIZE), big), 0);
    },
  );
}

test.serial(
  'a server that stays away ends in a retryable error, and in an answer once it is back',
  async (t) => {
    const server = await samba(t);
    const smb = await client(t, server, { reconnectAttempts: 3 });
    const file = await smb.open('big.bin');
    await server.kill();
    const error = await t.throwsAsync<SmbError>(file.read(0, 10));
    t.true(error!.retryable, error!.message);
    t.true(['UNREACHABLE', 'CONNECTION_LOST'].includes(error!.code));
    await server.launch();
    t.deepEqual(Buffer.from(await file.read(0, 10)), big.subarray(0, 10));
  },
);

test.serial('a file replaced or changed while the connection was gone is STALE', async (t) => {
  const server = await samba(t);
  const path = (name: string) => join(directory, 'stale', name);
  await mkdir(path(''));
  const time = new Date(1_700_000_000_000);
  for (const name of ['same', 'replaced', 'touched', 'gone', 'new']) {
    await writeFile(path(name), 'some data');
    await utimes(path(name), time, time);
  }
  const smb = await client(t, server);
  const open = async (name: string) => ({ name, file: await smb.open(`stale/${name}`) });
  const [same, replaced, touched, gone] = await Promise.all(
    ['same', 'replaced', 'touched', 'gone'].map(open),
  );
  await server.kill();
  await rename(path('new'), path('replaced'));
  await utimes(path('touched'), time, new Date());
  await rm(path('gone'));
  await server.launch();
  t.is((await same!.file.read(0, 9)).length, 9);
  for (const { file } of [replaced!, touched!]) {
    await t.throwsAsync(file.read(0, 9), { code: 'STALE' });
    await t.throwsAsync(file.read(0, 9), { code: 'STALE' });
  }
  await t.throwsAsync(gone!.file.read(0, 9), { code: 'NOT_FOUND' });
});

test.serial('an idle connection is kept alive, and a silent one is noticed', async (t) => {
  const server = await samba(t);
  const proxy = await FrameProxy.start(server.port);
  t.teardown(() => proxy.stop());
  const smb = await client(t, server, {
    port: proxy.port,
    idleTimeout: 80,
    requestTimeout: 1500,
    reconnectAttempts: 2,
  });
  let echoes = 0;
  proxy.fault = (frame) => {
    if (HEADER.decode(frame).command === 13) echoes++;
    return [frame];
  };
  while (echoes < 3) await sleep(20);
  proxy.fault = () => [];
  const error = await t.throwsAsync<SmbError>(smb.stat('big.bin'));
  t.is(error!.code, 'TIMEOUT');
  t.true(error!.retryable);
  proxy.fault = undefined;
  t.is((await smb.stat('big.bin')).size, SIZE);
});

const flip = (frame: Buffer, at: number) => {
  frame[at]! ^= 1;
  return [frame];
};
const unsigned = (frame: Buffer) => {
  const header = HEADER.decode(frame);
  HEADER.encode({ ...header, flags: header.flags & ~HeaderFlag.SIGNED, signature: Buffer.alloc(16) }, frame);
  return [frame];
};
const forged = (_frame: Buffer) => {
  const header = { creditCharge: 1, status: 0xc0000034, command: 5, credits: 1, flags: 1, nextCommand: 0 };
  return [
    HEADER.encode({
      ...header,
      messageId: 6n,
      treeOrAsyncId: 0n,
      sessionId: 0n,
      signature: Buffer.alloc(16),
    }),
  ];
};
const truncated = (frame: Buffer) => [frame.subarray(0, frame.length >> 1)];
const replayed = () => {
  let before: Buffer | undefined;
  return (frame: Buffer) => {
    const delivered = before ?? frame;
    before = Buffer.from(frame);
    return [delivered];
  };
};

for (const [encryption, what, fault, code] of [
  ['off', 'a changed byte', (frame: Buffer) => flip(frame, frame.length - 1), /^SIGNATURE$/],
  ['off', 'a signature taken away', unsigned, /^SIGNATURE$/],
  ['off', 'a frame cut short', truncated, /^(SIGNATURE|PROTOCOL)$/],
  ['off', 'an old response', replayed(), /^PROTOCOL$/],
  ['required', 'a changed byte', (frame: Buffer) => flip(frame, frame.length - 1), /^SIGNATURE$/],
  ['required', 'a changed transform header', (frame: Buffer) => flip(frame, 25), /^SIGNATURE$/],
  ['required', 'a forged response in the clear', forged, /^SIGNATURE$/],
  ['required', 'a frame cut short', truncated, /^(SIGNATURE|PROTOCOL)$/],
  ['required', 'an old response', replayed(), /^PROTOCOL$/],
] as const) {
  test.serial(`${what} on the wire (encryption ${encryption}) never becomes data`, async (t) => {
    const server = await samba(t, { encryption });
    const proxy = await FrameProxy.start(server.port);
    t.teardown(() => proxy.stop());
    const smb = await client(t, server, { port: proxy.port });
    const file = await smb.open('big.bin');
    proxy.fault = fault;
    const read = async () => {
      for (let i = 0; i < 3; i++) t.is(Buffer.compare(await file.read(i, 100), big.subarray(i, i + 100)), 0);
    };
    const error = await t.throwsAsync<SmbError>(read());
    t.regex(error!.code, code);
    t.regex(error!.message, /^smb:\/\/127\.0\.0\.1:\d+\/store: /);
    proxy.fault = undefined;
    t.is((await file.read(0, 100)).length, 100, 'and a new connection works');
  });
}

test.serial('a negotiation changed on the wire is found out', async (t) => {
  const server = await samba(t, { maxProtocol: 'SMB3_02' });
  const proxy = await FrameProxy.start(server.port);
  t.teardown(() => proxy.stop());
  proxy.fault = (frame) => {
    // SecurityMode of the NEGOTIATE response: a server that no longer seems to require signing.
    if (HEADER.decode(frame).command === 0) frame.writeUInt16LE(0, 64 + 2);
    return [frame];
  };
  await t.throwsAsync(client(t, server, { port: proxy.port, dialects: ['3.0.2'] }), {
    code: 'PROTOCOL',
    message: /changed/,
  });
  const modern = await samba(t);
  const other = await FrameProxy.start(modern.port);
  t.teardown(() => other.stop());
  other.fault = (frame) => {
    if (HEADER.decode(frame).command === 0) frame.writeUInt32LE(0x47, 64 + 24);
    return [frame];
  };
  await t.throwsAsync(client(t, modern, { port: other.port }), { code: 'SIGNATURE' });
});

test.serial('the password shows up in no error, no inspection and no log of the server', async (t) => {
  const server = await samba(t, { users: { alice: 'Zebra-Streifen-77' } });
  const smb = await client(t, server);
  const failed = await t.throwsAsync(client(t, server, { share: 'nix' }));
  for (const shown of [
    inspect(smb, { depth: 9, showHidden: true }),
    inspect(failed, { depth: 9 }),
    await server.log(),
  ]) {
    t.false(shown.includes('Zebra'), shown);
  }
});
