import test from 'ava';
import { rc4 } from '../../src/smb/rc4.js';

test('the 40-bit and 128-bit vectors of RFC 6229 hold', (t) => {
  const stream = (key: string) => rc4(Buffer.from(key, 'hex'), Buffer.alloc(32)).toString('hex');
  t.is(stream('0102030405'), 'b2396305f03dc027ccc3524a0a1118a86982944f18fc82d589c403a47a0d0919');
  t.is(
    stream('0102030405060708090a0b0c0d0e0f10'),
    '9ac7cc9a609d1ef7b2932899cde41b975248c4959014126a6e8a84f11d1a9e1c',
  );
});
