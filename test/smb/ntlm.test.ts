import test from 'ava';
import { smbCredentials } from '../../src/smb/credentials.js';
import {
  decodeAvPairs,
  NTLM_AUTHENTICATE,
  NTLM_CHALLENGE,
  NTLM_NEGOTIATE,
  NtlmLogin,
  ntlmV2Response,
  ntResponseKey,
} from '../../src/smb/ntlm.js';

// MS-NLMP § 4.2.1 and 4.2.4.
const CREDENTIALS = smbCredentials({ username: 'User', password: 'Password', domain: 'Domain' });
const SERVER_CHALLENGE = Buffer.from('0123456789abcdef', 'hex');
const CLIENT_CHALLENGE = Buffer.alloc(8, 0xaa);
const TARGET_INFO = Buffer.from(
  '02000c0044006f006d00610069006e0001000c005300650072007600650072000000' + '0000',
  'hex',
);

test('the structures have the sizes of MS-NLMP', (t) => {
  t.is(NTLM_NEGOTIATE.size, 32);
  t.is(NTLM_CHALLENGE.size, 48);
  t.is(NTLM_AUTHENTICATE.size, 88);
});

test('the NTLMv2 values of MS-NLMP § 4.2.4 come out', (t) => {
  const key = ntResponseKey(CREDENTIALS);
  t.is(key.toString('hex'), '0c868a403bfd7a93a3001ef22ef02e3f');
  const { response, sessionBaseKey } = ntlmV2Response(
    key,
    SERVER_CHALLENGE,
    CLIENT_CHALLENGE,
    Buffer.alloc(8),
    TARGET_INFO,
  );
  t.is(response.subarray(0, 16).toString('hex'), '68cd0ab851e51c96aabc927bebef6a1c');
  t.is(sessionBaseKey.toString('hex'), '8de40ccadbc14a82f15cb0ad0de95ca3');
});

test('target information is taken apart', (t) => {
  t.deepEqual(
    decodeAvPairs(TARGET_INFO).map(({ id, value }) => [id, value.toString('utf16le')]),
    [
      [2, 'Domain'],
      [1, 'Server'],
    ],
  );
});

test('a challenge that would weaken the login is refused', (t) => {
  const challenge = NTLM_CHALLENGE.encode({
    targetNameLength: 0,
    targetNameMaxLength: 0,
    targetNameOffset: 0,
    flags: 0x00000205,
    serverChallenge: SERVER_CHALLENGE,
    targetInfoLength: 0,
    targetInfoMaxLength: 0,
    targetInfoOffset: 48,
  });
  t.throws(() => new NtlmLogin(CREDENTIALS, 'host').authenticate(challenge), { code: 'PROTOCOL' });
});
