import test from 'ava';
import { decodeNegotiate } from '../../src/smb/negotiate.js';
import { cipherContext, negotiateResponse, OFFER, PREAUTH_CONTEXT, signingContext } from './samples.js';

test('the contexts of a 3.1.1 server decide cipher and signing', (t) => {
  const response = negotiateResponse('3.1.1', [PREAUTH_CONTEXT, cipherContext(1), signingContext(2)]);
  const agreement = decodeNegotiate(response, OFFER);
  t.is(agreement.dialect, '3.1.1');
  t.is(agreement.cipher, 'AES-128-CCM');
  t.is(agreement.signingAlgorithm, 'AES-128-GMAC');
});

test('a 3.1.1 server without the optional contexts signs with AES-128-CMAC and does not encrypt', (t) => {
  const agreement = decodeNegotiate(negotiateResponse('3.1.1', [PREAUTH_CONTEXT]), OFFER);
  t.is(agreement.cipher, undefined);
  t.is(agreement.signingAlgorithm, 'AES-128-CMAC');
  const none = negotiateResponse('3.1.1', [PREAUTH_CONTEXT, cipherContext(0)]);
  t.is(decodeNegotiate(none, OFFER).cipher, undefined);
});

test('3.0.2 has one cipher, 2.1 none', (t) => {
  t.is(decodeNegotiate(negotiateResponse('3.0.2', []), OFFER).cipher, 'AES-128-CCM');
  const old = decodeNegotiate(negotiateResponse('2.1', []), OFFER);
  t.is(old.cipher, undefined);
  t.is(old.signingAlgorithm, 'HMAC-SHA256');
});

test('what was not offered cannot be chosen', (t) => {
  const refuses = (response: Buffer, offer = OFFER) =>
    t.throws(() => decodeNegotiate(response, offer), { code: 'PROTOCOL' });
  refuses(negotiateResponse('2.1', []), { ...OFFER, dialects: ['3.1.1'] });
  refuses(negotiateResponse('3.1.1', [PREAUTH_CONTEXT, cipherContext(4)]));
  refuses(negotiateResponse('3.1.1', [PREAUTH_CONTEXT, signingContext(0)]));
  refuses(negotiateResponse('3.1.1', [cipherContext(2)]));
});
