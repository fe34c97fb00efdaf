import test from 'ava';
import { SIGNING_ALGORITHMS, type SigningAlgorithm } from '../../src/smb/algorithms.js';
import { HEADER } from '../../src/smb/header.js';
import { Signer } from '../../src/smb/signing.js';

/** The signed SESSION_SETUP response of Microsoft's published SMB 3.1.1 session (see key-derivation.test.ts). */
const SIGNED = Buffer.from(
  'FE534D4240000100000000000100800009000000000000000300000000000000FFFE000000000000' +
    '1900000000100000EBE146DA120BA25FC3376A49DFE31BC10900000048001D00A11B3019A0030A01' +
    '00A3120410010000003B453CDC3524164200000000',
  'hex',
);
const SIGNING_KEY = Buffer.from('73FE7A9A77BEF0BDE49C650D8CCB5F76', 'hex');

test('the published AES-128-CMAC signature verifies, and comes out when signing', (t) => {
  const signer = new Signer('AES-128-CMAC', SIGNING_KEY);
  const message = Buffer.from(SIGNED);
  t.true(signer.verify(message, HEADER.decode(SIGNED)));
  signer.sign(message, HEADER.decode(SIGNED));
  t.deepEqual(message, SIGNED);
});

for (const algorithm of Object.keys(SIGNING_ALGORITHMS) as SigningAlgorithm[]) {
  test(`${algorithm}: every changed byte breaks the signature`, (t) => {
    const signer = new Signer(algorithm, SIGNING_KEY);
    const message = Buffer.from(SIGNED);
    signer.sign(message, HEADER.decode(message));
    t.true(signer.verify(Buffer.from(message), HEADER.decode(message)));
    for (let at = 0; at < message.length; at++) {
      const changed = Buffer.from(message);
      changed[at]! ^= 0x10;
      // The header as it was: what the signature says about the bytes is in question, not how they decode.
      t.false(signer.verify(changed, HEADER.decode(message)), `byte ${at}`);
    }
  });
}
