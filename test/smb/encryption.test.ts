import test from 'ava';
import { CIPHERS, type Cipher } from '../../src/smb/algorithms.js';
import { Envelope, TRANSFORM_HEADER } from '../../src/smb/encryption.js';

// Microsoft, "Encryption in SMB 3.0: a protocol perspective": response to a READ.
const SESSION_ID = 0x8e40014000011n;
const DECRYPTION_KEY = Buffer.from('8FE2B57EC34D2DB5B1A9727F526BBDB5', 'hex');
const ENCRYPTED = Buffer.from(
  'FD534D42ABD518B68C2F04D7879F482B689EB83F87000000000000001100001400E4080067000000000001001100001400E40800' +
    '493D6FE2BDBEB435CF5F546970C7BB57BF20E713C75A3D045507E0D68E5C0346659D6FFB8AC1504A786CA2BB89C9E7FE4F313E91' +
    '0A04180D2D0EA7DF636329E5A3285984500EF86FE9D55DA4FAB9531CFDD4C551D47F3C73124BB4590A45052B694048B991CCF5',
  'hex',
);

test('the published AES-128-CCM message decrypts', (t) => {
  const envelope = new Envelope('AES-128-CCM', Buffer.alloc(16), DECRYPTION_KEY);
  const message = envelope.open(ENCRYPTED, SESSION_ID);
  t.is(message.subarray(80).toString('latin1'), 'Smb3 encryption testing');
});

for (const cipher of Object.keys(CIPHERS) as Cipher[]) {
  const key = Buffer.alloc(CIPHERS[cipher].keyLength, 3);

  test(`${cipher}: what one side seals the other opens, and nonces never repeat`, (t) => {
    const envelope = new Envelope(cipher, key, key);
    const message = Buffer.from('a message of odd length');
    const packets = Array.from({ length: 100 }, () => envelope.seal(message, 7n));
    for (const packet of packets) t.deepEqual(envelope.open(packet, 7n), message);
    const nonces = packets.map((packet) => TRANSFORM_HEADER.decode(packet).nonce.toString('hex'));
    t.is(new Set(nonces).size, packets.length);
  });

  test(`${cipher}: every changed byte is noticed`, (t) => {
    const envelope = new Envelope(cipher, key, key);
    const packet = envelope.seal(Buffer.alloc(100, 5), 7n);
    const used = CIPHERS[cipher].nonceLength;
    for (let at = 0; at < packet.length; at++) {
      const changed = Buffer.from(packet);
      changed[at]! ^= 1;
      const error = t.throws(() => envelope.open(changed, 7n), undefined, `byte ${at} of nonce ${used}`);
      t.regex((error as { code?: string }).code ?? '', /^(PROTOCOL|SIGNATURE)$/);
    }
  });
}
