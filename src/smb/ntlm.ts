/** NTLMv2 (MS-NLMP) as a client, with MIC, session key exchange and the signature that SPNEGO asks for. */
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { SmbCredentials } from './credentials.js';
import { protocolError } from './error.js';
import { bytes, constant, Layout, reserved, slice, u16, u32, u64 } from './layout.js';
import { md4 } from './md4.js';
import { rc4 } from './rc4.js';

/** NEGOTIATE structure flags, MS-NLMP § 2.2.2.5. */
const Flag = {
  UNICODE: 0x1,
  REQUEST_TARGET: 0x4,
  SIGN: 0x10,
  NTLM: 0x200,
  ANONYMOUS: 0x800,
  ALWAYS_SIGN: 0x8000,
  EXTENDED_SESSION_SECURITY: 0x80000,
  TARGET_INFO: 0x800000,
  KEY_128: 0x20000000,
  KEY_EXCHANGE: 0x40000000,
} as const;
const CLIENT_FLAGS = Object.values(Flag).reduce((all, flag) => all | flag, 0) & ~Flag.ANONYMOUS;
/** Without these there is no NTLMv2, or no key of ours. */
const REQUIRED_FLAGS =
  Flag.UNICODE | Flag.EXTENDED_SESSION_SECURITY | Flag.TARGET_INFO | Flag.KEY_128 | Flag.KEY_EXCHANGE;

/** AV_PAIR ids, § 2.2.2.1. */
const Av = { EOL: 0, FLAGS: 6, TIMESTAMP: 7, TARGET_NAME: 9, CHANNEL_BINDINGS: 10 } as const;
const AV_FLAG_MIC = 0x2;

const SIGNATURE = constant(u64, 0x005053534d4c544en, 'NTLM signature'); // "NTLMSSP\0"
const messageType = (value: number) => constant(u32, value, 'NTLM MessageType');

export const NTLM_NEGOTIATE = new Layout('NTLM NEGOTIATE', {
  signature: SIGNATURE,
  messageType: messageType(1),
  flags: u32,
  domain: reserved(8),
  workstation: reserved(8),
});

export const NTLM_CHALLENGE = new Layout('NTLM CHALLENGE', {
  signature: SIGNATURE,
  messageType: messageType(2),
  targetNameLength: u16,
  targetNameMaxLength: u16,
  targetNameOffset: u32,
  flags: u32,
  serverChallenge: bytes(8),
  reserved: reserved(8),
  targetInfoLength: u16,
  targetInfoMaxLength: u16,
  targetInfoOffset: u32,
});

/** Each of the six payload fields is (length, maximum length, offset), § 2.2.1.3. */
const payloadField = { width: 8 } as const;
export const NTLM_AUTHENTICATE = new Layout('NTLM AUTHENTICATE', {
  signature: SIGNATURE,
  messageType: messageType(3),
  lm: bytes(payloadField.width),
  nt: bytes(payloadField.width),
  domain: bytes(payloadField.width),
  user: bytes(payloadField.width),
  workstation: bytes(payloadField.width),
  sessionKey: bytes(payloadField.width),
  flags: u32,
  version: reserved(8),
  mic: bytes(16),
});

export interface AvPair {
  id: number;
  value: Buffer;
}

export function decodeAvPairs(info: Buffer): AvPair[] {
  const pairs: AvPair[] = [];
  let rest = info;
  for (;;) {
    if (rest.length < 4) throw protocolError('NTLM target information cut short');
    const id = rest.readUInt16LE(0);
    const length = rest.readUInt16LE(2);
    if (id === Av.EOL) return pairs;
    pairs.push({ id, value: slice(rest, 4, length, 'NTLM target information') });
    rest = rest.subarray(4 + length);
  }
}

function encodeAvPairs(pairs: readonly AvPair[]): Buffer {
  const parts = [...pairs, { id: Av.EOL, value: Buffer.alloc(0) }].map(({ id, value }) => {
    const head = Buffer.alloc(4);
    head.writeUInt16LE(id, 0);
    head.writeUInt16LE(value.length, 2);
    return Buffer.concat([head, value]);
  });
  return Buffer.concat(parts);
}

export interface Challenge {
  flags: number;
  serverChallenge: Buffer;
  targetInfo: AvPair[];
}

export function decodeChallenge(message: Buffer): Challenge {
  const fixed = NTLM_CHALLENGE.decode(message);
  if ((fixed.flags & REQUIRED_FLAGS) !== REQUIRED_FLAGS) {
    throw protocolError('an NTLM challenge that does not allow NTLMv2 with 128-bit keys');
  }
  const info = slice(message, fixed.targetInfoOffset, fixed.targetInfoLength, 'NTLM target information');
  return { flags: fixed.flags, serverChallenge: fixed.serverChallenge, targetInfo: decodeAvPairs(info) };
}

function hmacMd5(key: Uint8Array, ...parts: Uint8Array[]): Buffer {
  const hmac = createHmac('md5', key);
  for (const part of parts) hmac.update(part);
  return hmac.digest();
}

/** Upper case as Windows has it: by single characters, never longer than the original. */
function upperCase(text: string): string {
  return [...text].map((c) => (c.toUpperCase().length === c.length ? c.toUpperCase() : c)).join('');
}

/** NTOWFv2, § 3.3.2. */
export function ntResponseKey(credentials: SmbCredentials): Buffer {
  const identity = upperCase(credentials.username) + (credentials.domain ?? '');
  return hmacMd5(md4(Buffer.from(credentials.password, 'utf16le')), Buffer.from(identity, 'utf16le'));
}

/** Windows file time of now: 100 ns units since 1601. */
function fileTimeNow(): Buffer {
  const time = Buffer.alloc(8);
  time.writeBigUInt64LE(BigInt(Date.now()) * 10_000n + 116_444_736_000_000_000n);
  return time;
}

/** ComputeResponse of § 3.3.2: the NTLMv2 response and the session base key. */
export function ntlmV2Response(
  responseKey: Buffer,
  serverChallenge: Buffer,
  clientChallenge: Buffer,
  time: Buffer,
  targetInfo: Buffer,
): { response: Buffer; sessionBaseKey: Buffer } {
  const version = Buffer.from([1, 1, 0, 0, 0, 0, 0, 0]);
  const temp = Buffer.concat([version, time, clientChallenge, Buffer.alloc(4), targetInfo, Buffer.alloc(4)]);
  const proof = hmacMd5(responseKey, serverChallenge, temp);
  return { response: Buffer.concat([proof, temp]), sessionBaseKey: hmacMd5(responseKey, proof) };
}

/** One login: `negotiate()` gives the first token, `authenticate()` the second and the session key. */
export class NtlmLogin {
  readonly #credentials: SmbCredentials;
  readonly #targetName: string;
  readonly #negotiate = NTLM_NEGOTIATE.encode({ flags: CLIENT_FLAGS >>> 0 });
  #sessionKey: Buffer | undefined;

  constructor(credentials: SmbCredentials, host: string) {
    this.#credentials = credentials;
    this.#targetName = `cifs/${host}`;
  }

  /** An empty user name logs in anonymously (§ 3.1.5.1.2). */
  get anonymous(): boolean {
    return this.#credentials.username === '';
  }

  negotiate(): Buffer {
    return this.#negotiate;
  }

  /** The key that SMB derives its own from; 16 bytes. */
  get sessionKey(): Buffer {
    return this.#sessionKey!;
  }

  authenticate(challengeMessage: Buffer): Buffer {
    const challenge = decodeChallenge(challengeMessage);
    const { nt, lm, sessionBaseKey } = this.#responses(challenge);
    this.#sessionKey = randomBytes(16);
    const parts = {
      lm,
      nt,
      domain: Buffer.from(this.#credentials.domain ?? '', 'utf16le'),
      user: Buffer.from(this.#credentials.username, 'utf16le'),
      workstation: Buffer.alloc(0),
      // With NTLMv2 the key exchange key is the session base key (§ 3.4.5.1).
      sessionKey: rc4(sessionBaseKey, this.#sessionKey),
    };
    let at = NTLM_AUTHENTICATE.size;
    const place = (part: Buffer) => {
      const field = Buffer.alloc(payloadField.width);
      field.writeUInt16LE(part.length, 0);
      field.writeUInt16LE(part.length, 2);
      field.writeUInt32LE(at, 4);
      at += part.length;
      return field;
    };
    const flags = (challenge.flags & CLIENT_FLAGS) | (this.anonymous ? Flag.ANONYMOUS : 0);
    const fixed = NTLM_AUTHENTICATE.encode({
      lm: place(parts.lm),
      nt: place(parts.nt),
      domain: place(parts.domain),
      user: place(parts.user),
      workstation: place(parts.workstation),
      sessionKey: place(parts.sessionKey),
      flags: flags >>> 0,
      mic: Buffer.alloc(16),
    });
    const message = Buffer.concat([fixed, ...Object.values(parts)]);
    // The MIC covers all three messages, with itself as zeros (§ 3.1.5.1.2).
    const mic = hmacMd5(this.#sessionKey, this.#negotiate, challengeMessage, message);
    message.set(mic, NTLM_AUTHENTICATE.offsets.mic);
    return message;
  }

  #responses(challenge: Challenge): { nt: Buffer; lm: Buffer; sessionBaseKey: Buffer } {
    if (this.anonymous) {
      return { nt: Buffer.alloc(0), lm: Buffer.alloc(1), sessionBaseKey: Buffer.alloc(16) };
    }
    const serverTime = challenge.targetInfo.find((pair) => pair.id === Av.TIMESTAMP)?.value;
    if (serverTime !== undefined && serverTime.length !== 8)
      throw protocolError('an NTLM timestamp of odd length');
    const flags = Buffer.alloc(4);
    const serverFlags = challenge.targetInfo.find((pair) => pair.id === Av.FLAGS)?.value;
    flags.writeUInt32LE(AV_FLAG_MIC | (serverFlags?.length === 4 ? serverFlags.readUInt32LE() : 0));
    const ours = [
      { id: Av.FLAGS, value: flags },
      { id: Av.CHANNEL_BINDINGS, value: Buffer.alloc(16) }, // none: there is no TLS around us
      { id: Av.TARGET_NAME, value: Buffer.from(this.#targetName, 'utf16le') },
    ];
    const theirs = challenge.targetInfo.filter((pair) => !ours.some((own) => own.id === pair.id));
    const key = ntResponseKey(this.#credentials);
    const clientChallenge = randomBytes(8);
    const { response, sessionBaseKey } = ntlmV2Response(
      key,
      challenge.serverChallenge,
      clientChallenge,
      serverTime ?? fileTimeNow(),
      encodeAvPairs([...theirs, ...ours]),
    );
    // A server that tells the time gets no LM response (§ 3.1.5.1.2).
    const lm =
      serverTime === undefined
        ? Buffer.concat([hmacMd5(key, challenge.serverChallenge, clientChallenge), clientChallenge])
        : Buffer.alloc(24);
    return { nt: response, lm, sessionBaseKey };
  }

  /** The signature of the first message that one side signs (§ 3.4.4.2), which SPNEGO uses as its mechListMIC. */
  signature(message: Buffer, side: 'client' | 'server'): Buffer {
    const direction = side === 'client' ? 'client-to-server' : 'server-to-client';
    const derive = (use: string) =>
      createHash('md5')
        .update(this.sessionKey)
        .update(`session key to ${direction} ${use} key magic constant\0`, 'latin1')
        .digest();
    const sequence = Buffer.alloc(4);
    const checksum = hmacMd5(derive('signing'), sequence, message).subarray(0, 8);
    return Buffer.concat([Buffer.from([1, 0, 0, 0]), rc4(derive('sealing'), checksum), sequence]);
  }

  isServerSignature(signature: Buffer, message: Buffer): boolean {
    const expected = this.signature(message, 'server');
    return signature.length === expected.length && timingSafeEqual(signature, expected);
  }
}
