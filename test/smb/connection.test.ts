/** Raw servers on loopback that do what no real one does. */
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { SmbClient } from '../../src/smb/client.js';
import { Connection } from '../../src/smb/connection.js';
import { smbCredentials } from '../../src/smb/credentials.js';
import { encodeEmpty } from '../../src/smb/empty-body.js';
import { encodeFrame } from '../../src/smb/frames.js';
import { Command, HEADER, type Header, HeaderFlag } from '../../src/smb/header.js';
import { Status } from '../../src/smb/status.js';
import { random } from './random.js';
import { rawServer } from './raw-server.js';
import { SAMPLES } from './samples.js';

function reply(request: Header, change: Partial<Header> = {}): Buffer {
  const header = { ...request, flags: HeaderFlag.SERVER_TO_REDIR, credits: 1, ...change };
  return encodeFrame(Buffer.concat([HEADER.encode(header), encodeEmpty()]));
}

async function connected(t: ExecutionContext, port: number, requestTimeout = 10_000): Promise<Connection> {
  const options = {
    host: '127.0.0.1',
    port,
    location: 'smb://host/share',
    connectTimeout: 10_000,
    requestTimeout,
    idleTimeout: 60_000,
  };
  const connection = await Connection.open(options);
  t.teardown(() => connection.fail(new Error('test over')));
  return connection;
}

const echo = (connection: Connection, signal?: AbortSignal) =>
  connection.request(Command.ECHO, encodeEmpty(), 1, signal);

test('an answer finds its request', async (t) => {
  const port = await rawServer(t, (header, send) => send(reply(header)));
  const connection = await connected(t, port);
  const { response } = await echo(connection);
  t.is(response.header.messageId, 0n);
  t.is((await echo(connection)).response.header.messageId, 1n);
});

test('answers may come in any order, cut into single bytes or several at once', async (t) => {
  const held: Buffer[] = [];
  const port = await rawServer(t, (header, send, socket) => {
    if (header.messageId === 0n) return void send(reply(header, { credits: 10 }));
    held.unshift(reply(header));
    if (held.length < 10) return;
    const wire = Buffer.concat(held);
    send(wire.subarray(0, 150));
    void (async () => {
      for (const byte of wire.subarray(150, 300)) {
        socket.write(Buffer.from([byte]));
        await sleep(0);
      }
      send(wire.subarray(300));
    })();
  });
  const connection = await connected(t, port);
  await echo(connection);
  const answers = await Promise.all(Array.from({ length: 10 }, () => echo(connection)));
  t.deepEqual(
    answers.map(({ response }) => response.header.messageId),
    Array.from({ length: 10 }, (_, i) => BigInt(i + 1)),
  );
});

test('an interim response is not the answer, and what it grants counts', async (t) => {
  const port = await rawServer(t, (header, send) => {
    if (header.messageId === 0n) {
      const interim = {
        status: Status.PENDING,
        flags: HeaderFlag.SERVER_TO_REDIR | HeaderFlag.ASYNC,
        credits: 5,
      };
      send(reply(header, { ...interim, treeOrAsyncId: 77n }));
    }
    // The second request can only be sent on the credits of the interim response.
    if (header.messageId === 1n) send(reply({ ...header, messageId: 0n }, { credits: 0 }), reply(header));
  });
  const connection = await connected(t, port);
  const [first] = await Promise.all([echo(connection), echo(connection)]);
  t.is(first.response.header.status, Status.SUCCESS);
});

test('an aborted request is cancelled at the server by its async id, and its late answer does no harm', async (t) => {
  const seen: Header[] = [];
  const port = await rawServer(t, (header, send) => {
    seen.push(header);
    const async = { flags: HeaderFlag.SERVER_TO_REDIR | HeaderFlag.ASYNC, treeOrAsyncId: 77n };
    if (header.command === Command.CANCEL) {
      send(reply({ ...header, command: Command.ECHO }, { ...async, status: Status.CANCELLED }));
    } else if (header.messageId === 0n) send(reply(header, { ...async, status: Status.PENDING, credits: 2 }));
    else send(reply(header));
  });
  const connection = await connected(t, port);
  const abort = new AbortController();
  const first = echo(connection, abort.signal);
  await echo(connection);
  abort.abort(new Error('no longer wanted'));
  await t.throwsAsync(first, { message: 'no longer wanted' });
  await echo(connection);
  const cancel = seen.find((header) => header.command === Command.CANCEL);
  t.is(cancel?.treeOrAsyncId, 77n);
  t.is(cancel?.messageId, 0n);
  t.is(connection.failure, undefined);
});

const CRIMES: [string, (header: Header) => Buffer][] = [
  ['a response twice', (header) => Buffer.concat([reply(header), reply(header)])],
  ['a response to a request never made', (header) => reply(header, { messageId: 99n })],
  ['a response to another command', (header) => reply(header, { command: Command.READ })],
  ['a request', (header) => reply(header, { flags: 0 })],
  ['a message of SMB 1', () => encodeFrame(Buffer.from('ff534d4272000000', 'hex'))],
  ['a compressed message', () => encodeFrame(Buffer.from('fc534d4200000000', 'hex'))],
  [
    'an encrypted message before there are keys',
    () => encodeFrame(Buffer.concat([Buffer.from('fd534d42', 'hex'), Buffer.alloc(96)])),
  ],
  ['a frame of 16 MiB', () => Buffer.from('00ffffff', 'hex')],
  ['a web page', () => Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')],
  ['a frame shorter than a header', () => encodeFrame(Buffer.from('fe534d4240', 'hex'))],
  ['an answer with no credits in it', (header) => reply(header, { credits: 0 })],
];

for (const [crime, answer] of CRIMES) {
  test(`${crime} ends the connection with PROTOCOL, for everyone who waits`, async (t) => {
    const port = await rawServer(t, (header, send) => send(answer(header)));
    const connection = await connected(t, port);
    const all = await Promise.allSettled([echo(connection), echo(connection), echo(connection)]);
    const refused = all.filter((result) => result.status === 'rejected');
    t.true(refused.length >= 2);
    for (const { reason } of refused) {
      t.is(reason.code, 'PROTOCOL');
      t.regex(reason.message, /^smb:\/\/host\/share: the server sent /);
    }
    await t.throwsAsync(echo(connection), { code: 'PROTOCOL' });
  });
}

test('a server that closes in the middle of a frame loses the connection, retryably', async (t) => {
  const port = await rawServer(t, (header, send, socket) => {
    send(reply(header).subarray(0, 30));
    socket.end();
  });
  const error = await t.throwsAsync(echo(await connected(t, port)), { code: 'CONNECTION_LOST' });
  t.true((error as { retryable?: boolean }).retryable);
});

test('a server that falls silent times out', async (t) => {
  const port = await rawServer(t, () => {});
  await t.throwsAsync(echo(await connected(t, port, 100)), {
    code: 'TIMEOUT',
    message: /did not answer within 100 ms/,
  });
});

test('a server that keeps the line busy and never answers times out all the same', async (t) => {
  const port = await rawServer(t, (header, send, socket) => {
    if (header.messageId > 0n) return;
    const chatter = setInterval(() => send(reply(header, { messageId: 0xffffffffffffffffn })), 10);
    socket.on('close', () => clearInterval(chatter));
  });
  await t.throwsAsync(echo(await connected(t, port, 100)), { code: 'TIMEOUT' });
});

const login = (port: number) =>
  SmbClient.connect({
    host: '127.0.0.1',
    port,
    share: 'share',
    credentials: smbCredentials({ username: 'user', password: 'hunter2' }),
    connectTimeout: 5000,
  });

test('a login to a server that answers with mutations of real answers ends in an SmbError, and says no password', async (t) => {
  const { seed, below } = random();
  t.log(`seed ${seed}`);
  const port = await rawServer(t, (header, send) => {
    const sample = SAMPLES[below(3)]!.bytes;
    const mutant = Buffer.from(sample);
    for (let n = below(4); n > 0; n--) mutant[64 + below(mutant.length - 64)] = below(256);
    HEADER.encode(
      {
        ...HEADER.decode(sample),
        messageId: header.messageId,
        command: header.command,
        status: below(2) * 0xc0000016,
      },
      mutant,
    );
    send(encodeFrame(mutant));
  });
  for (let i = 0; i < 100; i++) {
    const error = await t.throwsAsync(login(port));
    t.is(error?.name, 'SmbError', String(error?.stack));
    t.false(error!.message.includes('hunter2'));
  }
});

test('a port where nobody listens is UNREACHABLE, and the remedy is in the message', async (t) => {
  await t.throwsAsync(login(1), {
    code: 'UNREACHABLE',
    message:
      'smb://127.0.0.1:1/share: no connection to 127.0.0.1 port 1 (ECONNREFUSED); check host, port and network',
  });
});

test('a server that accepts and says nothing is a TIMEOUT of the login', async (t) => {
  const port = await rawServer(t, () => {});
  const options = {
    host: '127.0.0.1',
    port,
    share: 's',
    credentials: smbCredentials({ username: 'u', password: 'p' }),
  };
  await t.throwsAsync(SmbClient.connect({ ...options, connectTimeout: 200 }), { code: 'TIMEOUT' });
  const abort = new AbortController();
  setTimeout(() => abort.abort(new Error('stop')), 100);
  await t.throwsAsync(SmbClient.connect({ ...options, signal: abort.signal }), { message: 'stop' });
});
