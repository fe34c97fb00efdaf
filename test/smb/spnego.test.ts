import test from 'ava';
import { decodeDer, encodeDer, unwrapDer } from '../../src/smb/der.js';
import { decodeResponse, encodeInit, encodeResponse, offersNtlm } from '../../src/smb/spnego.js';

test('an element of any length comes back', (t) => {
  for (const length of [0, 1, 127, 128, 255, 256, 65_535, 65_536]) {
    t.is(unwrapDer(encodeDer(0x04, Buffer.alloc(length, 7)), 0x04).length, length);
  }
});

test('indefinite, oversized and truncated lengths are refused', (t) => {
  for (const hex of ['04', '0480', '04847fffffff', '0405aabb', '0482ff']) {
    t.throws(() => decodeDer(Buffer.from(hex, 'hex')), { code: 'PROTOCOL' }, hex);
  }
});

test('the first token of the client names NTLMSSP', (t) => {
  t.true(offersNtlm(encodeInit(Buffer.from('token'))));
});

test('a server that takes Kerberos only is recognised', (t) => {
  const kerberos = Buffer.from('06092a864886f712010202', 'hex');
  const spnego = Buffer.from('06062b0601050502', 'hex');
  const mechanisms = encodeDer(0xa0, encodeDer(0x30, kerberos));
  const token = encodeDer(0x60, spnego, encodeDer(0xa0, encodeDer(0x30, mechanisms)));
  t.false(offersNtlm(token));
});

test('the tokens of a response are found', (t) => {
  const response = decodeResponse(encodeResponse(Buffer.from('token'), Buffer.from('mic')));
  t.is(response.responseToken?.toString(), 'token');
  t.is(response.mechListMic?.toString(), 'mic');
  // NegTokenResp { negState accept-completed }, as Windows sends it.
  t.is(decodeResponse(Buffer.from('a1073005a0030a0100', 'hex')).state, 'completed');
});
