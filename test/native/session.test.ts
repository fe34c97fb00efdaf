/** The FUSE session on raw bytes: what it answers to whom, without a mount. */
import { existsSync, rmSync, statSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { BLOCK_SIZE, type Directory as Tree } from '../../src/erofs/tree.js';
import { addon } from '../../src/native/addon.js';
import { directory, file } from '../erofs/tree-arbitrary.js';
import { ALL_FLAGS, FLAGS, OPCODES, parseDirectory, readBody, serve } from './kernel.js';
import { block, DEVICE_SIZE, start, tree, withoutData } from './sample-index.js';

const { EINVAL, ENAMETOOLONG, ENODATA, ENOSYS, ENOTDIR, ENXIO, EPROTO, ERANGE, EROFS, ESTALE } =
  constants.errno;

function withXattrs(): Tree {
  return directory({
    file: file(0, [], {
      xattrs: new Map([
        ['user.a', Buffer.from('value')],
        ['trusted.t', Buffer.from('secret')],
        ['security.capability', Buffer.from('cap')],
      ]),
    }),
  });
}

test('INIT takes what the kernel offers and nothing else', async (t) => {
  const { kernel } = start(t);
  const { error, body } = await kernel.init();
  t.is(error, 0);
  t.is(body.length, 64);
  t.is(body.readUInt32LE(0), 7);
  t.is(body.readUInt32LE(4), 40);
  const flags = BigInt(body.readUInt32LE(12)) | (BigInt(body.readUInt32LE(32)) << 32n);
  for (const [name, flag] of Object.entries(FLAGS)) t.is((flags & flag) !== 0n, name !== 'POSIX_ACL', name);
  t.is(body.readUInt16LE(28), 128, 'max_pages');

  const old = await kernel.init(FLAGS.NO_OPEN_SUPPORT | FLAGS.NO_OPENDIR_SUPPORT, 7, 31);
  t.is(old.body.readUInt32LE(4), 31);
  t.is(BigInt(old.body.readUInt32LE(12)), FLAGS.NO_OPEN_SUPPORT | FLAGS.NO_OPENDIR_SUPPORT);
});

test('INIT refuses a kernel that would need file handles, and tells a newer one its version', async (t) => {
  const { kernel } = start(t);
  t.is((await kernel.init(ALL_FLAGS & ~FLAGS.NO_OPEN_SUPPORT)).error, -EPROTO);
  t.is((await kernel.init(ALL_FLAGS, 7, 28)).error, -EPROTO);
  t.is((await kernel.init(ALL_FLAGS, 6, 0)).error, -EPROTO);
  const newer = await kernel.init(ALL_FLAGS, 8, 0);
  t.deepEqual([newer.error, newer.body.readUInt32LE(0)], [0, 7]);
});

test('LOOKUP finds names, and what it does not find may be remembered', async (t) => {
  const { kernel } = start(t);
  const found = await kernel.ask(OPCODES.LOOKUP, 'big\0');
  t.is(found.error, 0);
  t.true(found.body.readBigUInt64LE(0) > 1n);
  t.true(found.body.readBigUInt64LE(16) > 1_000_000n, 'entry_valid');
  t.is(found.body.readBigUInt64LE(48), BigInt(DEVICE_SIZE), 'size');
  t.is(found.body.readBigInt64LE(72), -2n, 'mtime, which is before 1970');
  t.is(found.body.readUInt32LE(92), 500_000_000, 'mtimensec');
  for (const name of ['a', 'bigg', 'zzz', 'entry-0']) {
    const missing = await kernel.ask(OPCODES.LOOKUP, `${name}\0`);
    t.is(missing.error, 0, name);
    t.is(missing.body.readBigUInt64LE(0), 0n);
    t.true(missing.body.readBigUInt64LE(16) > 1_000_000n);
  }
  const many = await kernel.lookup('many');
  for (let i = 0; i < 700; i++) t.not(await kernel.lookup(`many/entry-${i}`), 0n);
  t.is(await kernel.lookup('many/entry-700'), 0n);
  t.is((await kernel.ask(OPCODES.LOOKUP, '..\0', { nodeid: many })).body.readBigUInt64LE(0), 1n);
  t.is((await kernel.ask(OPCODES.LOOKUP, '.\0', { nodeid: many })).body.readBigUInt64LE(0), many);
});

test('LOOKUP refuses what is no name', async (t) => {
  const { kernel } = start(t);
  const big = await kernel.lookup('big');
  t.is((await kernel.ask(OPCODES.LOOKUP, 'no end')).error, -EINVAL);
  t.is((await kernel.ask(OPCODES.LOOKUP, '\0')).error, -EINVAL);
  t.is((await kernel.ask(OPCODES.LOOKUP, `${'x'.repeat(256)}\0`)).error, -ENAMETOOLONG);
  t.is((await kernel.ask(OPCODES.LOOKUP, 'x\0', { nodeid: big })).error, -ENOTDIR);
  for (const nodeid of [0n, 1n << 40n, (1n << 64n) - 1n])
    t.is((await kernel.ask(OPCODES.LOOKUP, 'x\0', { nodeid })).error, -ESTALE);
});

test('the kernel is told not to ask again, or that nothing can be written', async (t) => {
  const { kernel, session } = start(t);
  for (const opcode of [
    OPCODES.OPEN,
    OPCODES.OPENDIR,
    OPCODES.FLUSH,
    OPCODES.ACCESS,
    OPCODES.STATX,
    OPCODES.GETXATTR,
  ])
    t.is((await kernel.ask(opcode, 'x'.repeat(64))).error, -ENOSYS, String(opcode));
  for (const opcode of [OPCODES.SETATTR, OPCODES.MKDIR, OPCODES.WRITE])
    t.is((await kernel.ask(opcode, 'x'.repeat(64))).error, -EROFS, String(opcode));
  for (const opcode of [0, 7, 63, 64, 1000, 0xffffffff])
    t.is((await kernel.ask(opcode)).error, -ENOSYS, String(opcode));
  t.is((await kernel.ask(OPCODES.RELEASE, 'x'.repeat(24))).error, 0);
  t.is((await kernel.ask(OPCODES.DESTROY)).error, 0);
  const { requests, errors } = session.stats();
  t.is(requests.WRITE, 1);
  t.is(requests.UNKNOWN, 6);
  t.deepEqual(errors, { EROFS: 3 });
});

test('FORGET, BATCH_FORGET and NOTIFY_REPLY get no reply', async (t) => {
  const { kernel } = start(t);
  kernel.send(OPCODES.FORGET, Buffer.alloc(8));
  kernel.send(OPCODES.BATCH_FORGET, Buffer.alloc(24));
  kernel.send(OPCODES.NOTIFY_REPLY, Buffer.alloc(8));
  const unique = kernel.send(OPCODES.GETATTR, Buffer.alloc(16));
  t.is((await kernel.next())?.unique, unique);
});

for (const [name, plus] of [
  ['READDIR', false],
  ['READDIRPLUS', true],
] as const)
  test(`${name} gives every entry once, however little is asked for at a time`, async (t) => {
    const { kernel } = start(t);
    const nodeid = await kernel.lookup('many');
    for (const size of [300, 4096, 1 << 20, 0xffffffff]) {
      const entries = [];
      for (let offset = 0; ; ) {
        const { error, body } = await kernel.ask(OPCODES[name], readBody(offset, size), { nodeid });
        t.is(error, 0);
        if (body.length === 0) break;
        const part = parseDirectory(body, plus);
        t.true(part.next > offset);
        offset = part.next;
        entries.push(...part.entries);
      }
      t.is(entries.length, 702);
      t.is(new Set(entries.map((entry) => entry.name)).size, 702);
      for (const entry of entries) {
        const dots = entry.name === '.' || entry.name === '..';
        t.is(entry.type, dots ? 4 : 8);
        if (plus) t.is(entry.nodeid, dots ? 0n : entry.ino);
      }
    }
    t.is((await kernel.ask(OPCODES[name], readBody(1 << 30, 4096), { nodeid })).body.length, 0);
    t.is((await kernel.ask(OPCODES[name], readBody(0, 10), { nodeid })).body.length, 0);
    t.is(
      (await kernel.ask(OPCODES[name], readBody(0, 4096), { nodeid: await kernel.lookup('big') })).error,
      -ENOTDIR,
    );
  });

test('READLINK gives the target of a symlink only', async (t) => {
  const { kernel } = start(t);
  const reply = await kernel.ask(OPCODES.READLINK, '', { nodeid: await kernel.lookup('link') });
  t.is(reply.body.toString(), 'some/where');
  t.is((await kernel.ask(OPCODES.READLINK)).error, -EINVAL);
});

test('GETATTR gives device numbers, and STATFS the size of all devices', async (t) => {
  const { kernel } = start(t);
  const { body } = await kernel.ask(OPCODES.GETATTR, Buffer.alloc(16), {
    nodeid: await kernel.lookup('null'),
  });
  t.is(body.readUInt32LE(16 + 60), 0o020644, 'mode');
  t.is(body.readUInt32LE(16 + 76), (1 << 8) | 3, 'rdev');
  const statfs = await kernel.ask(OPCODES.STATFS);
  t.true(statfs.body.readBigUInt64LE(0) > BigInt(DEVICE_SIZE / BLOCK_SIZE));
});

test('holes are zeros, and LSEEK finds them', async (t) => {
  const { kernel, files } = start(t);
  await files[0]!.put(0, block(0));
  const nodeid = await kernel.lookup('sparse');
  const { body } = await kernel.read(nodeid, 0, 1 << 20);
  const expected = Buffer.alloc(5 * BLOCK_SIZE);
  block(0).copy(expected, 2 * BLOCK_SIZE, 0, BLOCK_SIZE);
  t.true(body.equals(expected));

  const seek = async (offset: number, whence: number): Promise<number> => {
    const request = Buffer.alloc(24);
    request.writeBigUInt64LE(BigInt(offset), 8);
    request.writeUInt32LE(whence, 16);
    const reply = await kernel.ask(OPCODES.LSEEK, request, { nodeid });
    return reply.error !== 0 ? reply.error : Number(reply.body.readBigUInt64LE(0));
  };
  const [DATA, HOLE] = [3, 4];
  t.is(await seek(0, DATA), 2 * BLOCK_SIZE);
  t.is(await seek(2 * BLOCK_SIZE + 5, DATA), 2 * BLOCK_SIZE + 5);
  t.is(await seek(3 * BLOCK_SIZE, DATA), -ENXIO);
  t.is(await seek(0, HOLE), 0);
  t.is(await seek(2 * BLOCK_SIZE, HOLE), 3 * BLOCK_SIZE);
  t.is(await seek(5 * BLOCK_SIZE, HOLE), -ENXIO);
  t.is(await seek(0, 0), -EINVAL);
});

test('a session that adopts a descriptor asks the kernel to resend', async (t) => {
  const served = serve(withoutData(tree()), [DEVICE_SIZE], { adopt: true });
  t.teardown(() => served.close());
  const first = await served.kernel.next();
  t.deepEqual([first?.unique, first?.error, first?.body.length], [0n, 7, 0]);
  t.not(await served.kernel.lookup('big'), 0n);
});

test('the other end going away ends the session', async (t) => {
  const served = serve(withoutData(tree()), [DEVICE_SIZE], { threads: 5 });
  served.kernel.close();
  t.is(await served.ended, 'unmounted');
  await served.session.close();
  served.files[0]!.close();
  rmSync(served.path, { recursive: true });
});

test('xattrs are given by name, in both ways of asking', async (t) => {
  const { kernel } = start(t, withXattrs());
  const nodeid = await kernel.lookup('file');
  const get = (name: string, size: number) => {
    const body = Buffer.alloc(8 + name.length + 1);
    body.writeUInt32LE(size, 0);
    body.write(name, 8, 'latin1');
    return kernel.ask(OPCODES.GETXATTR, body, { nodeid });
  };
  t.is((await get('user.a', 0)).body.readUInt32LE(0), 5);
  t.is((await get('user.a', 5)).body.toString(), 'value');
  t.is((await get('user.a', 4)).error, -ERANGE);
  t.is((await get('security.capability', 100)).body.toString(), 'cap');
  for (const name of ['user.b', 'user.', 'a', 'user.aa', 'trusted.a'])
    t.is((await get(name, 9)).error, -ENODATA, name);
  t.is((await get('', 9)).error, -EINVAL);

  const size = Buffer.from([0, 16, 0, 0, 0, 0, 0, 0]);
  const { body } = await kernel.ask(OPCODES.LISTXATTR, size, { nodeid });
  const names = body.toString().split('\0').filter(Boolean).sort();
  t.deepEqual(names, ['security.capability', 'trusted.t', 'user.a']);
});

test('POSIX ACLs in the image turn the kernel’s ACLs on', async (t) => {
  const acl = Buffer.from('0200000001000600ffffffff04000400ffffffff20000400ffffffff', 'hex');
  const { kernel } = start(
    t,
    directory({ f: file(0, [], { xattrs: new Map([['system.posix_acl_access', acl]]) }) }),
  );
  const { body } = await kernel.init();
  t.not(BigInt(body.readUInt32LE(12)) & FLAGS.POSIX_ACL, 0n);
});

test('requests cut short or of a wrong length get EINVAL, and none ends the session', async (t) => {
  const { kernel } = start(t);
  kernel.sendRaw(Buffer.from([1]));
  kernel.sendRaw(Buffer.alloc(39));
  for (const opcode of [
    OPCODES.LOOKUP,
    OPCODES.GETATTR,
    OPCODES.READ,
    OPCODES.READDIR,
    OPCODES.LSEEK,
    OPCODES.INIT,
  ])
    t.is((await kernel.ask(opcode)).error, -EINVAL, String(opcode));
  t.is((await kernel.ask(OPCODES.GETATTR, Buffer.alloc(16), { length: 40 })).error, -EINVAL);
  t.is((await kernel.ask(OPCODES.GETATTR, Buffer.alloc(16), { length: 0xffffffff })).error, -EINVAL);
  kernel.send(OPCODES.FORGET);
  kernel.send(OPCODES.INTERRUPT);
  t.not(await kernel.lookup('big'), 0n);
});

test('random requests never end the session', async (t) => {
  const seed = Number(process.env.ORCA_SEED ?? Date.now() % 2 ** 31);
  t.log(`seed ${seed}`);
  let state = seed;
  const random = (limit: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
  const { kernel, files } = start(t, withXattrs());
  for (let number = 0; number < 40; number++) await files[0]!.put(number, block(number));
  for (let round = 0; round < 3000; round++) {
    const body = Buffer.from(Array.from({ length: random(80) }, () => (random(3) === 0 ? random(256) : 0)));
    const opcode = random(60);
    // Those that get no reply whatever is in them.
    const silent: number[] = [OPCODES.FORGET, OPCODES.BATCH_FORGET, OPCODES.NOTIFY_REPLY, OPCODES.INTERRUPT];
    const unique = kernel.send(opcode, body, { nodeid: BigInt(random(100)), uid: random(2) });
    if (!silent.includes(opcode)) await kernel.reply(unique);
  }
  t.not(await kernel.lookup('file'), 0n);
});

test('an index that cannot be served is named with the reason', (t) => {
  const index = withoutData(tree());
  const fail = (bytes: Buffer, reason: RegExp, sizes = [DEVICE_SIZE]): void => {
    const error = t.throws(() => serve(bytes, sizes));
    t.regex(error?.message ?? '', reason);
    t.regex(error?.message ?? '', /\/index/);
  };
  fail(Buffer.alloc(0), /empty/);
  fail(Buffer.alloc(1000), /too short/);
  fail(Buffer.alloc(8192), /not an EROFS image/);
  fail(index, /1 devices, but 0 block files/, []);
  fail(index, /device 1 is longer/, [DEVICE_SIZE - 1]);
  const compressed = Buffer.from(index);
  compressed.writeUInt32LE(0xff, 1024 + 80);
  fail(compressed, /features/);
  const rootless = Buffer.from(index);
  rootless.writeUInt16LE(0xffff, 1024 + 14);
  fail(rootless, /root directory/);
});

test('a wrong argument throws before anything is served', (t) => {
  const options = { fd: 0, indexPath: 'x', blockFiles: [], onMiss() {}, onEnd() {} };
  for (const wrong of [
    { fd: -1 },
    { fd: 1.5 },
    { indexPath: '' },
    { indexPath: 'a\0b' },
    { blockFiles: [{}] },
    { blockFiles: 3 },
    { threads: 0 },
    { threads: 65 },
    { onMiss: null },
    { onEnd: 'x' },
    { onLikely: 1 },
  ])
    t.throws(() => new addon.Session({ ...options, ...wrong } as never), undefined, JSON.stringify(wrong));
});

test('a session shows that its layers are in use by an empty map, before anything is read', async (t) => {
  const { path } = start(t);
  const [dataPath, mapPath] = [join(path, 'data0'), join(path, 'map0')];
  while (!addon.blockFileInUse(mapPath)) await sleep(5);
  t.is(statSync(mapPath).size, 0);
  t.false(existsSync(dataPath));
  t.false(addon.removeBlockFile(dataPath, mapPath));
});
