import test from 'ava';
import { Envelope } from '../../src/smb/encryption.js';
import { HEADER, type Header, HeaderFlag } from '../../src/smb/header.js';
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
  const plain = protection.pack(header, BODY).packet;
  const sent = HEADER.decode(plain);
  t.not(sent.flags & HeaderFlag.SIGNED, 0);
  t.is(sent.sessionId, SESSION);
  t.true(signer.verify(Buffer.from(plain), sent));
  protection.encrypt();
  const { packet, message } = protection.pack(header, BODY);
  t.deepEqual(envelope.open(packet, SESSION), message);
});
