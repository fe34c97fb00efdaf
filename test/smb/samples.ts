/** One well-formed specimen of everything the server can send, with its decoder: where mutations start from. */
import { DIALECTS } from '../../src/smb/algorithms.js';
import { CLOSE_RESPONSE, decodeClose } from '../../src/smb/close.js';
import { CREATE_CONTEXT, CREATE_RESPONSE, decodeCreate } from '../../src/smb/create.js';
import { decodeEmpty, encodeEmpty } from '../../src/smb/empty-body.js';
import { HEADER, HEADER_SIZE, HeaderFlag, splitCompound } from '../../src/smb/header.js';
import { type Agreement, decodeNegotiate, NEGOTIATE_RESPONSE, type Offer } from '../../src/smb/negotiate.js';
import { decodeChallenge, NTLM_CHALLENGE } from '../../src/smb/ntlm.js';
import {
  DIRECTORY_ENTRY,
  decodeQueryDirectory,
  QUERY_DIRECTORY_RESPONSE,
} from '../../src/smb/query-directory.js';
import { ALL_INFORMATION, decodeQueryAllInformation, QUERY_INFO_RESPONSE } from '../../src/smb/query-info.js';
import { decodeRead, READ_RESPONSE } from '../../src/smb/read.js';
import { decodeSessionSetup, SESSION_SETUP_RESPONSE } from '../../src/smb/session-setup.js';
import { decodeResponse, encodeInit, encodeResponse, offersNtlm } from '../../src/smb/spnego.js';
import { decodeTreeConnect, TREE_CONNECT_RESPONSE } from '../../src/smb/tree-connect.js';
import {
  checkValidateNegotiate,
  IOCTL_RESPONSE,
  VALIDATE_RESPONSE,
} from '../../src/smb/validate-negotiate.js';

export interface Sample {
  name: string;
  bytes: Buffer;
  decode(bytes: Buffer): unknown;
}

export const OFFER: Offer = {
  dialects: ['2.1', '3.0.2', '3.1.1'],
  ciphers: ['AES-128-GCM', 'AES-128-CCM'],
  signingAlgorithms: ['AES-128-GMAC', 'AES-128-CMAC'],
  securityMode: 2,
  capabilities: 0x44,
  clientGuid: Buffer.alloc(16, 1),
  host: 'host',
};

export const AGREEMENT: Agreement = {
  dialect: '3.0.2',
  securityMode: 3,
  capabilities: 0x45,
  serverGuid: Buffer.alloc(16, 2),
  maxTransactSize: 1 << 20,
  maxReadSize: 1 << 20,
  cipher: 'AES-128-CCM',
  signingAlgorithm: 'AES-128-CMAC',
  securityBlob: Buffer.alloc(0),
};

/** A response header with `body` behind it. */
export function message(command: number, body: Buffer, nextCommand = 0): Buffer {
  const header = HEADER.encode({
    creditCharge: 1,
    status: 0,
    command,
    credits: 1,
    flags: HeaderFlag.SERVER_TO_REDIR,
    nextCommand,
    messageId: 5n,
    treeOrAsyncId: 1n << 32n,
    sessionId: 9n,
    signature: Buffer.alloc(16),
  });
  return Buffer.concat([header, body]);
}

function context(type: number, ...words: number[]): Buffer {
  const data = Buffer.alloc(words.length * 2);
  for (const [i, word] of words.entries()) data.writeUInt16LE(word, i * 2);
  const head = Buffer.alloc(8);
  head.writeUInt16LE(type, 0);
  head.writeUInt16LE(data.length, 2);
  const length = Math.ceil((8 + data.length) / 8) * 8;
  return Buffer.concat([head, data], length);
}

export const CHALLENGE = Buffer.concat([
  NTLM_CHALLENGE.encode({
    targetNameLength: 0,
    targetNameMaxLength: 0,
    targetNameOffset: 0,
    flags: 0xe28a8215,
    serverChallenge: Buffer.alloc(8, 3),
    targetInfoLength: 24,
    targetInfoMaxLength: 24,
    targetInfoOffset: NTLM_CHALLENGE.size,
  }),
  Buffer.from('020004004f005200' + '070008000102030405060708', 'hex'),
  Buffer.alloc(4),
]);

/** `contexts` are the negotiate contexts of a 3.1.1 response. */
export function negotiateResponse(dialect: keyof typeof DIALECTS, contexts: Buffer[]): Buffer {
  const blob = encodeInit(CHALLENGE);
  const at = HEADER_SIZE + NEGOTIATE_RESPONSE.size;
  const contextsAt = Math.ceil((at + blob.length) / 8) * 8;
  const fixed = NEGOTIATE_RESPONSE.encode({
    securityMode: 3,
    dialectRevision: DIALECTS[dialect],
    contextCount: contexts.length,
    serverGuid: Buffer.alloc(16, 2),
    capabilities: 0x45,
    maxTransactSize: 1 << 23,
    maxReadSize: 1 << 23,
    maxWriteSize: 1 << 23,
    systemTime: 1n,
    serverStartTime: 0n,
    securityBufferOffset: at,
    securityBufferLength: blob.length,
    contextOffset: contexts.length > 0 ? contextsAt : 0,
  });
  return message(0, Buffer.concat([fixed, blob, Buffer.alloc(contextsAt - at - blob.length), ...contexts]));
}

export const PREAUTH_CONTEXT = context(1, 1, 4, 1, 0xabcd, 0xef01);
export const cipherContext = (id: number) => context(2, 1, id);
export const signingContext = (id: number) => context(8, 1, id);

export function createResponse(size = 4000): Buffer {
  const qfid = Buffer.alloc(CREATE_CONTEXT.size + 8 + 32, 4);
  CREATE_CONTEXT.encode(
    { next: 0, nameOffset: 16, nameLength: 4, dataOffset: CREATE_CONTEXT.size + 8, dataLength: 32 },
    qfid,
  );
  qfid.write('QFid', CREATE_CONTEXT.size, 'latin1');
  const other = Buffer.alloc(32);
  CREATE_CONTEXT.encode({ next: 32, nameOffset: 16, nameLength: 4, dataOffset: 24, dataLength: 8 }, other);
  other.write('MxAc', 16, 'latin1');
  const fixed = CREATE_RESPONSE.encode({
    oplockLevel: 0,
    flags: 0,
    createAction: 1,
    creationTime: 1n,
    lastAccessTime: 2n,
    lastWriteTime: 3n,
    changeTime: 4n,
    allocationSize: 4096n,
    endOfFile: size,
    fileAttributes: 0x80,
    fileId: Buffer.alloc(16, 6),
    contextsOffset: HEADER_SIZE + CREATE_RESPONSE.size,
    contextsLength: other.length + qfid.length,
  });
  return message(5, Buffer.concat([fixed, other, qfid]));
}

export function directoryResponse(names: string[]): Buffer {
  const entries = names.map((name, i) => {
    const text = Buffer.from(name, 'utf16le');
    const length = DIRECTORY_ENTRY.size + text.length;
    const padded = i === names.length - 1 ? length : Math.ceil(length / 8) * 8;
    const entry = Buffer.alloc(padded);
    DIRECTORY_ENTRY.encode(
      {
        nextEntryOffset: i === names.length - 1 ? 0 : padded,
        fileIndex: 0,
        creationTime: 1n,
        lastAccessTime: 2n,
        lastWriteTime: 3n,
        changeTime: 4n,
        endOfFile: 100 + i,
        allocationSize: 4096n,
        fileAttributes: 0x80,
        nameLength: text.length,
        eaSize: 0,
        fileId: BigInt(i),
      },
      entry,
    );
    text.copy(entry, DIRECTORY_ENTRY.size);
    return entry;
  });
  const output = Buffer.concat(entries);
  const fixed = QUERY_DIRECTORY_RESPONSE.encode({
    outputBufferOffset: HEADER_SIZE + QUERY_DIRECTORY_RESPONSE.size,
    outputBufferLength: output.length,
  });
  return message(14, Buffer.concat([fixed, output]));
}

function queryInfoResponse(): Buffer {
  const info = ALL_INFORMATION.encode({
    creationTime: 1n,
    lastAccessTime: 2n,
    lastWriteTime: 3n,
    changeTime: 4n,
    fileAttributes: 0x80,
    allocationSize: 4096n,
    endOfFile: 4000,
    numberOfLinks: 1,
    deletePending: 0,
    directory: 0,
    indexNumber: 77n,
    eaSize: 0,
    accessFlags: 0,
    currentByteOffset: 0n,
    mode: 0,
    alignmentRequirement: 0,
    nameLength: 2,
  });
  const fixed = QUERY_INFO_RESPONSE.encode({
    outputBufferOffset: HEADER_SIZE + QUERY_INFO_RESPONSE.size,
    outputBufferLength: info.length + 2,
  });
  return message(16, Buffer.concat([fixed, info, Buffer.from('\\', 'utf16le')]));
}

export function readResponse(data: Buffer): Buffer {
  const fixed = READ_RESPONSE.encode({
    dataOffset: HEADER_SIZE + READ_RESPONSE.size,
    dataLength: data.length,
    dataRemaining: 0,
  });
  return message(8, Buffer.concat([fixed, data]));
}

function validateResponse(): Buffer {
  const info = VALIDATE_RESPONSE.encode({
    capabilities: AGREEMENT.capabilities,
    guid: AGREEMENT.serverGuid,
    securityMode: AGREEMENT.securityMode,
    dialect: DIALECTS[AGREEMENT.dialect],
  });
  const fixed = IOCTL_RESPONSE.encode({
    fileId: Buffer.alloc(16, 0xff),
    inputOffset: 0,
    inputCount: 0,
    outputOffset: HEADER_SIZE + IOCTL_RESPONSE.size,
    outputCount: info.length,
    flags: 0,
  });
  return message(11, Buffer.concat([fixed, info]));
}

export function sessionSetupResponse(sessionFlags = 0): Buffer {
  const token = encodeResponse(CHALLENGE, Buffer.alloc(16, 1));
  const fixed = SESSION_SETUP_RESPONSE.encode({
    sessionFlags,
    securityBufferOffset: HEADER_SIZE + SESSION_SETUP_RESPONSE.size,
    securityBufferLength: token.length,
  });
  return message(1, Buffer.concat([fixed, token]));
}

const echo = message(13, encodeEmpty());

/** Packs messages into one packet. */
export function compound(...messages: readonly Buffer[]): Buffer {
  return Buffer.concat(
    messages.map((one, i) => {
      if (i === messages.length - 1) return one;
      const padded = Buffer.concat([one], Math.ceil(one.length / 8) * 8);
      padded.writeUInt32LE(padded.length, HEADER.offsets.nextCommand);
      return padded;
    }),
  );
}

export const SAMPLES: readonly Sample[] = [
  {
    name: 'NEGOTIATE 3.1.1',
    bytes: negotiateResponse('3.1.1', [PREAUTH_CONTEXT, cipherContext(2), signingContext(2)]),
    decode: (b) => decodeNegotiate(b, OFFER),
  },
  { name: 'NEGOTIATE 2.1', bytes: negotiateResponse('2.1', []), decode: (b) => decodeNegotiate(b, OFFER) },
  {
    name: 'SESSION_SETUP',
    bytes: sessionSetupResponse(),
    decode: (b) => decodeResponse(decodeSessionSetup(b).token),
  },
  {
    name: 'TREE_CONNECT',
    bytes: message(
      3,
      TREE_CONNECT_RESPONSE.encode({
        shareType: 1,
        shareFlags: 0x8000,
        capabilities: 0,
        maximalAccess: 0x1f01ff,
      }),
    ),
    decode: decodeTreeConnect,
  },
  { name: 'CREATE', bytes: createResponse(), decode: decodeCreate },
  { name: 'CLOSE', bytes: message(6, CLOSE_RESPONSE.encode({ flags: 0 })), decode: decodeClose },
  { name: 'READ', bytes: readResponse(Buffer.alloc(100, 8)), decode: (b) => decodeRead(b, 100) },
  { name: 'QUERY_INFO', bytes: queryInfoResponse(), decode: decodeQueryAllInformation },
  {
    name: 'QUERY_DIRECTORY',
    bytes: directoryResponse(['.', '..', 'a', 'häßlich.vhd', '中']),
    decode: decodeQueryDirectory,
  },
  { name: 'ECHO', bytes: echo, decode: decodeEmpty },
  {
    name: 'VALIDATE_NEGOTIATE_INFO',
    bytes: validateResponse(),
    decode: (b) => checkValidateNegotiate(b, AGREEMENT),
  },
  { name: 'compound', bytes: compound(echo, echo), decode: splitCompound },
  {
    name: 'compound of CREATE and READ',
    bytes: compound(createResponse(), readResponse(Buffer.alloc(100, 8))),
    decode: (b) => {
      const [created, read] = splitCompound(b);
      return [decodeCreate(created!.bytes), read && decodeRead(read.bytes, 100)];
    },
  },
  { name: 'NTLM CHALLENGE', bytes: CHALLENGE, decode: decodeChallenge },
  { name: 'SPNEGO init', bytes: encodeInit(CHALLENGE), decode: offersNtlm },
  { name: 'SPNEGO response', bytes: encodeResponse(CHALLENGE, Buffer.alloc(16)), decode: decodeResponse },
];
