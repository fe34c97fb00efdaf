/** Files that come with their CREATE, from a scripted share that takes guests. */
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { SmbClient } from '../../src/smb/client.js';
import { CLOSE_RESPONSE } from '../../src/smb/close.js';
import { Connection } from '../../src/smb/connection.js';
import { decodeCreate } from '../../src/smb/create.js';
import { FramePool } from '../../src/smb/frame-pool.js';
import { encodeFrame } from '../../src/smb/frames.js';
import {
  Command,
  HEADER,
  HEADER_SIZE,
  type Header,
  HeaderFlag,
  splitCompound,
} from '../../src/smb/header.js';
import { decodeRead, READ_REQUEST } from '../../src/smb/read.js';
import { SessionFlag } from '../../src/smb/session-setup.js';
import { Status } from '../../src/smb/status.js';
import { TREE_CONNECT_RESPONSE } from '../../src/smb/tree-connect.js';
import { SmbSource } from '../../src/source/smb-source.js';
import { random } from './random.js';
import { rawServer } from './raw-server.js';
import {
  compound,
  createResponse,
  message,
  negotiateResponse,
  readResponse,
  sessionSetupResponse,
} from './samples.js';

const UNIT = 65536;
const FAILED = message(Command.READ, Buffer.from('090000000000000000', 'hex'));
const TREE = { shareType: 1, shareFlags: 0, capabilities: 0, maximalAccess: 0x1f01ff };

interface Share {
  content: Buffer;
  /** What the CREATE says, where that is not the length of the content. */
  size?: number;
  /** Credits that a response brings; default what was asked for. */
  credits?: number;
  /** The packets that a CREATE with a READ is answered with, of the two right responses; default one compound. */
  answer?(create: Buffer, read: Buffer): Buffer[] | undefined;
}

/** A response to a request, without the credits that it brings. */
function to(request: Header, response: Buffer, change: Partial<Header> = {}): Buffer {
  const { messageId } = request;
  HEADER.encode({ ...HEADER.decode(response), messageId, credits: 0, ...change }, response);
  return response;
}

const changed = (response: Buffer, change: Partial<Header>) => to(HEADER.decode(response), response, change);
const interim = (request: Buffer) =>
  to(
    HEADER.decode(request),
    Buffer.concat([request.subarray(0, HEADER_SIZE), FAILED.subarray(HEADER_SIZE)]),
    {
      status: Status.PENDING,
      flags: HeaderFlag.SERVER_TO_REDIR | HeaderFlag.ASYNC,
      treeOrAsyncId: HEADER.decode(request).messageId + 100n,
      nextCommand: 0,
    },
  );

/** Serves one file of any name; `commands` are those it was sent after the login, one list for each packet. */
async function serve(t: ExecutionContext, share: Share) {
  const commands: number[][] = [];
  const packets: Buffer[] = [];
  let setups = 0;
  const read = (request: Buffer) => {
    const { offset, length } = READ_REQUEST.decode(request, HEADER_SIZE);
    const data = share.content.subarray(offset, offset + length);
    return data.length > 0
      ? readResponse(data)
      : changed(Buffer.from(FAILED), { status: Status.END_OF_FILE });
  };
  const respond = ({ header, bytes }: { header: Header; bytes: Buffer }): Buffer => {
    switch (header.command) {
      case Command.NEGOTIATE:
        return negotiateResponse('2.1', []);
      case Command.SESSION_SETUP:
        return setups++ % 2 === 0
          ? changed(sessionSetupResponse(), { status: Status.MORE_PROCESSING_REQUIRED })
          : sessionSetupResponse(SessionFlag.GUEST);
      case Command.TREE_CONNECT:
        return message(Command.TREE_CONNECT, TREE_CONNECT_RESPONSE.encode(TREE));
      case Command.CREATE:
        return createResponse(share.size ?? share.content.length);
      case Command.READ:
        return read(bytes);
      case Command.CLOSE:
        return message(Command.CLOSE, CLOSE_RESPONSE.encode({ flags: 0 }));
      default:
        return changed(Buffer.from(FAILED), { status: Status.NOT_SUPPORTED, command: header.command });
    }
  };
  const port = await rawServer(t, (_, send, socket, packet) => {
    const requests = splitCompound(packet);
    if (requests[0]!.header.command >= Command.CREATE) {
      commands.push(requests.map(({ header }) => header.command));
      packets.push(Buffer.from(packet));
    }
    const responses = requests.map((request) =>
      to(request.header, respond(request), { credits: share.credits ?? request.header.credits }),
    );
    const [create, second] = responses;
    const answer = second === undefined ? [create!] : [compound(create!, second)];
    const sent = second === undefined ? answer : (share.answer ?? (() => answer))(create!, second);
    if (sent === undefined) return void socket.destroy();
    send(...sent.map(encodeFrame));
  });
  return { port, commands, packets };
}

const options = (port: number) => ({
  host: '127.0.0.1',
  port,
  share: 'share',
  credentials: { username: 'guest', password: '' },
  allowGuest: true,
  requestTimeout: 10_000,
});

function source(
  t: ExecutionContext,
  port: number,
  more: { requestTimeout?: number; frames?: FramePool } = {},
) {
  const opened = new SmbSource({ ...options(port), path: '', location: 'smb://host/share', ...more });
  t.teardown(() => opened.close());
  return opened;
}

const text = Buffer.from('{"schemaVersion": 2}');

test('a file comes in one round trip, by a compound of related requests', async (t) => {
  const { port, commands, packets } = await serve(t, { content: text });
  t.deepEqual(await source(t, port).readFile('index.json', 4 * UNIT), text);
  while (commands.length < 2) await sleep(1);
  t.deepEqual(commands, [[Command.CREATE, Command.READ], [Command.CLOSE]]);
  const [create, read] = splitCompound(packets[0]!);
  t.is(create!.header.nextCommand % 8, 0);
  t.is(create!.header.flags & HeaderFlag.RELATED, 0);
  t.not(read!.header.flags & HeaderFlag.RELATED, 0);
  t.is(read!.header.messageId, create!.header.messageId + 1n);
  t.is(read!.header.creditCharge, 4);
  const { length, fileId } = READ_REQUEST.decode(read!.bytes, HEADER_SIZE);
  t.is(length, 4 * UNIT);
  t.deepEqual(fileId, Buffer.alloc(16, 0xff));
  // The READ charged four message ids.
  t.is(HEADER.decode(packets[1]!).messageId, read!.header.messageId + 4n);
});

const ORDERLY: [string, NonNullable<Share['answer']>, number[][]][] = [
  ['one by one', (create, read) => [create, read], []],
  ['after interim ones', (create, read) => [interim(create), interim(read), create, read], []],
  ['after an interim one, together', (create, read) => [interim(create), compound(create, read)], []],
  [
    'with a READ that is refused in compounds',
    (create, read) => [compound(create, changed(read, { status: 0xc00000e5 }))],
    [[Command.READ]],
  ],
];

for (const [how, answer, more] of ORDERLY) {
  test(`responses may come ${how}`, async (t) => {
    const { port, commands } = await serve(t, { content: text, answer });
    t.deepEqual(Buffer.from(await source(t, port).readFile('index.json', UNIT)), text);
    while (commands.length < 2 + more.length) await sleep(1);
    t.deepEqual(commands, [[Command.CREATE, Command.READ], ...more, [Command.CLOSE]]);
  });
}

test('what is longer than the first READ is read on, and what is too long is not', async (t) => {
  const { seed, bytes } = random();
  t.log(`seed ${seed}`);
  const content = bytes(3 * (1 << 20) + 17);
  const { port, commands } = await serve(t, { content });
  const opened = source(t, port);
  t.true(content.equals(await opened.readFile('long', content.length)));
  while (commands.at(-1)![0] !== Command.CLOSE) await sleep(1);
  const before = commands.length;
  t.true(before > 3, `${before} packets`);
  await t.throwsAsync(opened.readFile('long', content.length - 1), { code: 'TOO_LARGE' });
  while (commands.length < before + 2) await sleep(1);
  t.deepEqual(commands.slice(before), [[Command.CREATE, Command.READ], [Command.CLOSE]]);
});

test('an empty file is empty, one that has become shorter is STALE, of one that grows comes what it had', async (t) => {
  const read = async (content: Buffer, size: number) => {
    const { port } = await serve(t, { content, size });
    return source(t, port).readFile('file', UNIT);
  };
  t.is((await read(Buffer.alloc(0), 0)).length, 0);
  for (const left of [0, 5]) await t.throwsAsync(read(text.subarray(0, left), 20), { code: 'STALE' });
  t.deepEqual(Buffer.from(await read(text, 4)), text.subarray(0, 4));
  t.is((await read(text, 0)).length, 0);
});

test('what the CREATE is refused with counts, whatever becomes of the READ', async (t) => {
  for (const status of [Status.OBJECT_NAME_NOT_FOUND, Status.FILE_CLOSED, Status.SUCCESS]) {
    const refused = { status: Status.OBJECT_NAME_NOT_FOUND };
    const { port, commands } = await serve(t, {
      content: text,
      answer: (create, read) => [compound(changed(create, refused), changed(read, { status }))],
    });
    await t.throwsAsync(source(t, port).readFile('file', UNIT), { code: 'NOT_FOUND' });
    t.is(commands.length, 1, 'nothing to close');
  }
});

test('a server that grants one credit at a time is asked for one thing after the other', async (t) => {
  const content = Buffer.alloc(UNIT + 5, 7);
  const { port, commands } = await serve(t, { content, credits: 1 });
  t.deepEqual(Buffer.from(await source(t, port).readFile('file', 1 << 20)), content);
  while (commands.length < 4) await sleep(1);
  t.deepEqual(commands, [[Command.CREATE], [Command.READ], [Command.READ], [Command.CLOSE]]);
});

test('a connection that is lost before the answer is made anew, and the file asked for again', async (t) => {
  let lost = 0;
  const { port } = await serve(t, {
    content: text,
    answer: (create, read) => (lost++ === 0 ? undefined : [compound(create, read)]),
  });
  t.deepEqual(await source(t, port).readFile('file', UNIT), text);
  t.is(lost, 2);
});

test('an open that nobody waits for any more is closed again', async (t) => {
  const abort = new AbortController();
  const { port, commands } = await serve(t, {
    content: text,
    answer: (create, read) => {
      abort.abort(new Error('no longer wanted'));
      return [compound(create, read)];
    },
  });
  const reading = source(t, port).readFile('file', UNIT, abort.signal);
  await t.throwsAsync(reading, { message: 'no longer wanted' });
  while (commands.length < 2) await sleep(1);
  t.deepEqual(commands, [[Command.CREATE, Command.READ], [Command.CLOSE]]);
});

const overlapping = (create: Buffer, read: Buffer) => {
  const packet = compound(create, read);
  packet.writeUInt32LE(HEADER_SIZE - 8, HEADER.offsets.nextCommand);
  return [packet];
};
const CRIMES: [string, NonNullable<Share['answer']>, string][] = [
  ['no second response', (create) => [create], 'TIMEOUT'],
  [
    'an interim response and no more',
    (create, read) => [interim(create), compound(create, interim(read))],
    'TIMEOUT',
  ],
  ['the first response twice', (create) => [compound(create, create)], 'PROTOCOL'],
  [
    'a second response to another command',
    (create, read) => [compound(create, changed(read, { command: Command.ECHO }))],
    'PROTOCOL',
  ],
  [
    'a second response to a request never made',
    (create, read) => [compound(create, changed(read, { messageId: 999n }))],
    'PROTOCOL',
  ],
  ['a chain that overlaps', overlapping, 'PROTOCOL'],
  [
    'more data than asked for',
    (create, read) => {
      const { messageId } = HEADER.decode(read);
      return [compound(create, changed(readResponse(Buffer.alloc(UNIT + 1)), { messageId }))];
    },
    'PROTOCOL',
  ],
  [
    'data that the response does not hold',
    (create, read) => {
      read.writeUInt32LE(UNIT, HEADER_SIZE + 4);
      return [compound(create, read)];
    },
    'PROTOCOL',
  ],
];

for (const [crime, answer, code] of CRIMES) {
  test(`${crime} ends the connection with ${code}`, async (t) => {
    const { port } = await serve(t, { content: text, answer });
    const requestTimeout = code === 'TIMEOUT' ? 100 : 10_000;
    const opened = source(t, port, { requestTimeout });
    await t.throwsAsync(opened.readFile('file', UNIT), {
      code,
      message: /^smb:\/\/127\.0\.0\.1:\d+\/share: /,
    });
  });
}

test('mutations of a compound response end in bytes or in a SourceError', async (t) => {
  const { seed, below } = random();
  t.log(`seed ${seed}`);
  const { port } = await serve(t, {
    content: text,
    answer: (create, read) => {
      const packet = compound(create, read);
      for (let n = 1 + below(3); n > 0; n--) packet[below(packet.length)] = below(256);
      return [packet];
    },
  });
  for (let i = 0; i < 100; i++) {
    const opened = source(t, port, { requestTimeout: 50 });
    const [result] = await Promise.allSettled([opened.readFile('file', UNIT)]);
    if (result.status === 'rejected') t.is(result.reason.name, 'SourceError', result.reason.stack);
    else t.true(result.value.length <= UNIT);
    await opened.close();
  }
});

test('memory of what came along is used again, whether it was read, given back twice, or never asked for', async (t) => {
  const { seed, below, bytes } = random();
  t.log(`seed ${seed}`);
  const content = bytes(300_000);
  const { port } = await serve(t, { content });
  const freed = new Set<Buffer>();
  let times = 0;
  const frames = new FramePool((buffer) => {
    times += 1;
    freed.add(buffer);
    buffer.fill(0xdb);
  });
  const smb = await SmbClient.connect({ ...options(port), frames });
  t.teardown(() => smb.close());
  const held: Uint8Array[] = [];
  const giveBack = () => {
    const data = held.shift()!;
    t.true(content.equals(data));
    frames.giveBack(data);
    frames.giveBack(data);
  };
  for (let i = 0; i < 200; i++) {
    const file = await smb.open('file', undefined, { offset: 0, length: content.length });
    t.is(file.size, content.length);
    if (below(3) > 0) held.push(await file.read(0, content.length));
    await file.close();
    if (held.length > 4) giveBack();
  }
  while (held.length > 0) giveBack();
  t.true(times > 15 && freed.size <= 8, `${freed.size} buffers, ${times} times`);
});

test('of a long compound only the last response lies in memory that is used again', async (t) => {
  const data = Buffer.alloc(100_000, 7);
  const port = await rawServer(t, (_, send, _socket, packet) => {
    const [first, second] = splitCompound(packet).map(({ header }) => header);
    const create = to(first!, createResponse(), { credits: 8, command: first!.command });
    send(encodeFrame(second === undefined ? create : compound(create, to(second, readResponse(data)))));
  });
  let freed = 0;
  const frames = new FramePool((buffer) => {
    freed += 1;
    buffer.fill(0xdb);
  });
  const limits = { connectTimeout: 10_000, requestTimeout: 10_000, idleTimeout: 60_000 };
  const connection = await Connection.open({
    ...options(port),
    ...limits,
    location: 'smb://host/share',
    frames,
  });
  t.teardown(() => connection.fail(new Error('test over')));
  await connection.request(Command.ECHO, Buffer.alloc(4));
  const exchange = () =>
    connection.compound(
      [Command.CREATE, Command.READ].map((command) => ({ command, body: Buffer.alloc(4), charge: 1 })),
    );
  const [created, read] = await exchange();
  t.true(decodeRead(read!.response.bytes, data.length).equals(data));
  // It does not fit into the same buffer.
  await exchange();
  frames.giveBack(read!.response.bytes);
  t.is(freed, 1);
  t.is(decodeCreate(created!.response.bytes).size, 4000);
});
