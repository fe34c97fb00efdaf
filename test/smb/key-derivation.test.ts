import test from 'ava';
import { sessionKeys } from '../../src/smb/key-derivation.js';

// Microsoft, "SMB 2 and SMB 3 security in Windows 10: the anatomy of signing and cryptographic keys", appendix.
const PREAUTH_HASH = Buffer.from(
  '0DD13628CC3ED218EF9DF9772D436D0887AB9814BFAE63A80AA845F36909DB79' +
    '28622DDDAD522D9751640A459762C5A9D6BB084CBB3CE6BDADEF5D5BCE3C6C01',
  'hex',
);

test('the keys of the published SMB 3.0 session come out', (t) => {
  const key = Buffer.from('7CD451825D0450D235424E44BA6E78CC', 'hex');
  const keys = sessionKeys('3.0.2', key, Buffer.alloc(64), 'AES-128-CCM');
  t.is(keys.signing.toString('hex').toUpperCase(), '0B7E9C5CAC36C0F6EA9AB275298CEDCE');
  t.is(keys.encryption.toString('hex').toUpperCase(), 'FAD27796665B313EBB578F388632B4F7');
  t.is(keys.decryption.toString('hex').toUpperCase(), 'B0F0427F7CEB416D1D9DCC0CD4F99447');
});

test('the keys of the published SMB 3.1.1 session come out', (t) => {
  const key = Buffer.from('270E1BA896585EEB7AF3472D3B4C75A7', 'hex');
  const keys = sessionKeys('3.1.1', key, PREAUTH_HASH, 'AES-128-GCM');
  t.is(keys.signing.toString('hex').toUpperCase(), '73FE7A9A77BEF0BDE49C650D8CCB5F76');
  t.is(keys.encryption.toString('hex').toUpperCase(), '629BCBC54422A0F572B97F45989B6073');
  t.is(keys.decryption.toString('hex').toUpperCase(), 'E2AF0DCEFAC68DA71A0DFBD0D1350D74');
});

test('a 256-bit cipher gets 32-byte keys, signing keeps 16', (t) => {
  const keys = sessionKeys('3.1.1', Buffer.alloc(16, 1), PREAUTH_HASH, 'AES-256-GCM');
  t.deepEqual([keys.signing.length, keys.encryption.length, keys.decryption.length], [16, 32, 32]);
});

test('SMB 2.1 signs with the session key itself', (t) => {
  const key = Buffer.alloc(16, 9);
  t.is(sessionKeys('2.1', key, Buffer.alloc(64), undefined).signing, key);
});
