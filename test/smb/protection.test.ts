import test from 'ava';
import { Envelope } from '../../src/smb/encryption.js';
import { HEADER, type Header, HeaderFlag, splitCompound } from '../../src/smb/header.js';
import { Protection } from '../../src/smb/protection.js';
import { Signer } from '../../src/smb/signing.js';
import { Status } from '../../src/smb/status.js';

const SESSION = 9n;
const KEY = Buffer.alloc(16, 1);
const BODY = Buffer.alloc(16, 5);
const signer = new Signer('AES-128-GMAC', KEY);
/** Sealed and opened with one key, so that it can stand for both sides. */
const envelope = new Envelope('AES-128-GCM', KEY, KEY);

function response(change: Partial<Header> = {}): { header: Header; frame: Buffer } {
  const header = {
    creditCharge: 1,
    status: 0,
    command: 8,
    credits: 1,
    flags: HeaderFlag.SERVER_TO_REDIR,
    nextCommand: 0,
    messageId: 5n,
    treeOrAsyncId: 0n,
    sessionId: SESSION,
    signature: Buffer.alloc(16),
    ...change,
  };
  return { header, frame: Buffer.concat([HEADER.encode(header), BODY]) };
}

function signed(change: Partial<Header> = {}): Buffer {
  const { header, frame } = response({ flags: HeaderFlag.SERVER_TO_REDIR | HeaderFlag.SIGNED, ...change });
  signer.sign(frame, header);
  return frame;
}

test('a signed session takes signed responses only', (t) => {
  const protection = new Protection(SESSION, signer);
  t.is(protection.unpack(signed()).length, 1);
  t.throws(() => protection.unpack(response().frame), { code: 'SIGNATURE', message: /unsigned/ });
  const changed = signed();
  changed[70]! ^= 1;
  t.throws(() => protection.unpack(changed), { code: 'SIGNATURE', message: /wrong signature/ });
  t.throws(() => protection.unpack(signed({ sessionId: 8n })), {
    code: 'PROTOCOL',
    message: /another session/,
  });
});

test('an interim response needs no signature, an unsolicited message is dropped unread', (t) => {
  const protection = new Protection(SESSION, signer);
  t.is(protection.unpack(response({ status: Status.PENDING }).frame).length, 1);
  t.is(protection.unpack(response({ messageId: 0xffffffffffffffffn }).frame).length, 0);
});

test('an encrypting session takes nothing in the clear, not even signed', (t) => {
  const protection = new Protection(SESSION, signer, envelope);
  t.is(protection.unpack(signed()).length, 1, 'before encryption is on');
  protection.encrypt();
  t.throws(() => protection.unpack(signed()), { code: 'SIGNATURE', message: /unencrypted/ });
  t.throws(() => protection.unpack(response({ status: Status.PENDING }).frame), { code: 'SIGNATURE' });
  t.is(protection.unpack(envelope.seal(response().frame, SESSION)).length, 1);
  t.throws(() => protection.unpack(envelope.seal(response().frame, 8n)), { code: 'PROTOCOL' });
});

test('requests are signed, and sealed once encryption is on', (t) => {
  const protection = new Protection(SESSION, signer, envelope);
  const { header } = response({ flags: 0 });
  const plain = protection.pack([{ header, body: BODY }]).packet;
  const sent = HEADER.decode(plain);
  t.not(sent.flags & HeaderFlag.SIGNED, 0);
  t.is(sent.sessionId, SESSION);
  t.true(signer.verify(Buffer.from(plain), sent));
  protection.encrypt();
  const { packet, messages } = protection.pack([{ header, body: BODY }]);
  t.deepEqual(envelope.open(packet, SESSION), messages[0]);
});

test('requests of a compound are signed one by one with their padding, and sealed together', (t) => {
  const protection = new Protection(SESSION, signer, envelope);
  const { header } = response({ flags: 0 });
  const requests = [5n, 6n, 7n].map((messageId) => ({
    header: { ...header, messageId },
    body: BODY.subarray(3),
  }));
  const { packet } = protection.pack(requests);
  t.is(packet.length, 80 + 80 + 77);
  const sent = splitCompound(Buffer.from(packet));
  t.deepEqual(
    sent.map((message) => [message.header.messageId, message.header.flags & HeaderFlag.RELATED]),
    [
      [5n, 0],
      [6n, HeaderFlag.RELATED],
      [7n, HeaderFlag.RELATED],
    ],
  );
  for (const message of sent) t.true(signer.verify(message.bytes, message.header));
  const changed = splitCompound(Buffer.from(packet));
  changed[0]!.bytes[79]! ^= 1;
  t.false(signer.verify(changed[0]!.bytes, changed[0]!.header), 'padding is signed');
  protection.encrypt();
  const sealed = protection.pack(requests);
  t.deepEqual(envelope.open(sealed.packet, SESSION), Buffer.concat(sealed.messages));
});
