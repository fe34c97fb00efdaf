/** NEGOTIATE (MS-SMB2 § 2.2.3 and 2.2.4) with the negotiate contexts of dialect 3.1.1. */
import { randomBytes } from 'node:crypto';
import {
  CIPHERS,
  type Cipher,
  DIALECTS,
  type Dialect,
  nameOf,
  SIGNING_ALGORITHMS,
  type SigningAlgorithm,
} from './algorithms.js';
import { protocolError, SmbError } from './error.js';
import { HEADER_SIZE } from './header.js';
import { bytes, Layout, reserved, slice, structureSize, u16, u32, u64 } from './layout.js';

export const Capability = { DFS: 0x1, LARGE_MTU: 0x4, ENCRYPTION: 0x40 } as const;
export const SecurityMode = { SIGNING_ENABLED: 1, SIGNING_REQUIRED: 2 } as const;

const ContextType = { PREAUTH_INTEGRITY: 1, ENCRYPTION: 2, NETNAME: 5, SIGNING: 8 } as const;
const SHA_512 = 1;
/** A server answers with as many contexts as it was sent, at most. */
const MAX_CONTEXTS = 16;

export const NEGOTIATE_REQUEST = new Layout('NEGOTIATE request', {
  structureSize: structureSize(36),
  dialectCount: u16,
  securityMode: u16,
  reserved: reserved(2),
  capabilities: u32,
  clientGuid: bytes(16),
  contextOffset: u32,
  contextCount: u16,
  reserved2: reserved(2),
});

export const NEGOTIATE_RESPONSE = new Layout('NEGOTIATE response', {
  structureSize: structureSize(65),
  securityMode: u16,
  dialectRevision: u16,
  contextCount: u16,
  serverGuid: bytes(16),
  capabilities: u32,
  maxTransactSize: u32,
  maxReadSize: u32,
  maxWriteSize: u32,
  systemTime: u64,
  serverStartTime: u64,
  securityBufferOffset: u16,
  securityBufferLength: u16,
  contextOffset: u32,
});

const CONTEXT_HEADER = new Layout('negotiate context', { type: u16, length: u16, reserved: reserved(4) });

export interface Offer {
  dialects: readonly Dialect[];
  ciphers: readonly Cipher[];
  signingAlgorithms: readonly SigningAlgorithm[];
  securityMode: number;
  capabilities: number;
  clientGuid: Buffer;
  host: string;
}

export interface Agreement {
  dialect: Dialect;
  securityMode: number;
  capabilities: number;
  serverGuid: Buffer;
  maxTransactSize: number;
  maxReadSize: number;
  /** None: the server cannot encrypt. */
  cipher: Cipher | undefined;
  signingAlgorithm: SigningAlgorithm;
  /** The SPNEGO token that says which mechanisms the server takes. */
  securityBlob: Buffer;
}

function u16List(...values: number[]): Buffer {
  const list = Buffer.alloc(values.length * 2);
  for (const [i, value] of values.entries()) list.writeUInt16LE(value, i * 2);
  return list;
}

function align8(length: number): number {
  return Math.ceil(length / 8) * 8;
}

export function encodeNegotiate(offer: Offer): Buffer {
  const dialects = u16List(...offer.dialects.map((name) => DIALECTS[name]));
  const contexts: [type: number, data: Buffer][] = [];
  if (offer.dialects.includes('3.1.1')) {
    const salt = randomBytes(32);
    const ciphers = offer.ciphers.map((name) => CIPHERS[name].id);
    const signing = offer.signingAlgorithms.map((name) => SIGNING_ALGORITHMS[name]);
    contexts.push([ContextType.PREAUTH_INTEGRITY, Buffer.concat([u16List(1, salt.length, SHA_512), salt])]);
    if (ciphers.length > 0) contexts.push([ContextType.ENCRYPTION, u16List(ciphers.length, ...ciphers)]);
    contexts.push([ContextType.SIGNING, u16List(signing.length, ...signing)]);
    contexts.push([ContextType.NETNAME, Buffer.from(offer.host, 'utf16le')]);
  }
  const fixedEnd = NEGOTIATE_REQUEST.size + dialects.length;
  const contextsAt = align8(HEADER_SIZE + fixedEnd) - HEADER_SIZE;
  const parts = contexts.map(([type, data], i) => {
    const length = CONTEXT_HEADER.size + data.length;
    const part = Buffer.alloc(i === contexts.length - 1 ? length : align8(length));
    CONTEXT_HEADER.encode({ type, length: data.length }, part);
    part.set(data, CONTEXT_HEADER.size);
    return part;
  });
  const fixed = NEGOTIATE_REQUEST.encode({
    dialectCount: offer.dialects.length,
    securityMode: offer.securityMode,
    capabilities: offer.capabilities,
    clientGuid: offer.clientGuid,
    // Without contexts these two fields are ClientStartTime, which is zero.
    contextOffset: contexts.length > 0 ? HEADER_SIZE + contextsAt : 0,
    contextCount: contexts.length,
  });
  const padding = Buffer.alloc(contexts.length > 0 ? contextsAt - fixedEnd : 0);
  return Buffer.concat([fixed, dialects, padding, ...parts]);
}

/** The one value that a context with a count and a list has to hold in a response. */
function chosen(data: Buffer, what: string): number {
  if (data.length < 4 || data.readUInt16LE(0) !== 1)
    throw protocolError(`a ${what} context without one choice`);
  return data.readUInt16LE(2);
}

export function decodeNegotiate(message: Buffer, offer: Offer): Agreement {
  const fixed = NEGOTIATE_RESPONSE.decode(message, HEADER_SIZE);
  const dialect = nameOf(DIALECTS, fixed.dialectRevision);
  if (dialect === undefined || !offer.dialects.includes(dialect)) {
    throw protocolError(`dialect 0x${fixed.dialectRevision.toString(16)}, which was not offered`);
  }
  const canEncrypt = dialect === '3.0.2' && (fixed.capabilities & Capability.ENCRYPTION) !== 0;
  const agreement: Agreement = {
    dialect,
    securityMode: fixed.securityMode,
    capabilities: fixed.capabilities,
    serverGuid: Buffer.from(fixed.serverGuid),
    maxTransactSize: fixed.maxTransactSize,
    maxReadSize: fixed.maxReadSize,
    // Dialects 3.0.x have one cipher and no choice (MS-SMB2 § 3.2.5.2).
    cipher: canEncrypt ? 'AES-128-CCM' : undefined,
    signingAlgorithm: dialect === '2.1' ? 'HMAC-SHA256' : 'AES-128-CMAC',
    securityBlob: slice(message, fixed.securityBufferOffset, fixed.securityBufferLength, 'a security buffer'),
  };
  if (dialect === '3.1.1') readContexts(message, fixed.contextOffset, fixed.contextCount, offer, agreement);
  return agreement;
}

function readContexts(message: Buffer, offset: number, count: number, offer: Offer, into: Agreement): void {
  if (count > MAX_CONTEXTS) throw protocolError(`${count} negotiate contexts`);
  let hashed = false;
  let at = offset;
  for (let i = 0; i < count; i++) {
    const { type, length } = CONTEXT_HEADER.decode(message, at);
    const data = slice(message, at + CONTEXT_HEADER.size, length, 'a negotiate context');
    at += align8(CONTEXT_HEADER.size + length);
    if (type === ContextType.PREAUTH_INTEGRITY) {
      // HashAlgorithmCount, SaltLength, HashAlgorithms, Salt (§ 2.2.3.1.1).
      if (data.length < 6 || data.readUInt16LE(0) !== 1 || data.readUInt16LE(4) !== SHA_512) {
        throw protocolError('a preauthentication hash other than SHA-512');
      }
      hashed = true;
    } else if (type === ContextType.ENCRYPTION) {
      const id = chosen(data, 'encryption');
      const cipher = nameOf(CIPHERS, id);
      if (id !== 0 && (cipher === undefined || !offer.ciphers.includes(cipher))) {
        throw protocolError(`cipher ${id}, which was not offered`);
      }
      into.cipher = cipher;
    } else if (type === ContextType.SIGNING) {
      const id = chosen(data, 'signing');
      const algorithm = nameOf(SIGNING_ALGORITHMS, id);
      if (algorithm === undefined || !offer.signingAlgorithms.includes(algorithm)) {
        throw protocolError(`signing algorithm ${id}, which was not offered`);
      }
      into.signingAlgorithm = algorithm;
    }
  }
  if (!hashed) throw protocolError('dialect 3.1.1 without a preauthentication hash');
}

/** The server knows none of the dialects. */
export function dialectError(offer: Offer, location: string, status: string): SmbError {
  return new SmbError(
    'DIALECT_UNSUPPORTED',
    `${location}: the server speaks none of SMB ${offer.dialects.join(', ')} (${status}); enable one of them there`,
    { status },
  );
}
