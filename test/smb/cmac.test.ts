import { createCipheriv } from 'node:crypto';
import test from 'ava';
import { AesCmac } from '../../src/smb/cmac.js';

// RFC 4493 § 4.
const KEY = Buffer.from('2b7e151628aed2a6abf7158809cf4f3c', 'hex');
const MESSAGE = Buffer.from(
  '6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51' +
    '30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710',
  'hex',
);
const TAGS: [number, string][] = [
  [0, 'bb1d6929e95937287fa37d129b756746'],
  [16, '070a16b46b4d4144f79bdd9dd04a287c'],
  [40, 'dfa66747de9ae63030ca32611497c827'],
  [64, '51f0bebf7e3b9d92fc49741779363cfe'],
];

test('the vectors of RFC 4493 hold', (t) => {
  const cmac = new AesCmac(KEY);
  for (const [length, tag] of TAGS) t.is(cmac.tag(MESSAGE.subarray(0, length)).toString('hex'), tag);
});

test('a message that spans several pieces has the tag of the plain algorithm', (t) => {
  const message = Buffer.alloc(200_000, 7);
  // CBC-MAC by hand over the padded message, with the subkey K2 of RFC 4493's key (§ 4).
  const k2 = Buffer.from('f7ddac306ae266ccf90bc11ee46d513b', 'hex');
  t.is(message.length % 16, 0);
  const short = message.subarray(0, 199_999);
  const last = Buffer.alloc(16);
  last.set(short.subarray(199_984));
  last[15] = 0x80;
  for (let i = 0; i < 16; i++) last[i]! ^= k2[i]!;
  const cipher = createCipheriv('aes-128-cbc', KEY, Buffer.alloc(16)).setAutoPadding(false);
  const encrypted = cipher.update(Buffer.concat([short.subarray(0, 199_984), last]));
  t.deepEqual(new AesCmac(KEY).tag(short), encrypted.subarray(-16));
});
