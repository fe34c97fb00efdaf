/**
 * The way from a connection to a session on a share: negotiate, session setup, tree connect, and before dialect
 * 3.1.1 the check of the negotiation.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  CIPHERS,
  type Cipher,
  type Dialect,
  SIGNING_ALGORITHMS,
  type SigningAlgorithm,
} from './algorithms.js';
import type { Connection, ConnectionOptions } from './connection.js';
import type { SmbCredentials } from './credentials.js';
import { Envelope } from './encryption.js';
import { protocolError, SmbError } from './error.js';
import { Command, HeaderFlag, treeIdOf } from './header.js';
import { sessionKeys } from './key-derivation.js';
import {
  type Agreement,
  Capability,
  decodeNegotiate,
  dialectError,
  encodeNegotiate,
  type Offer,
  SecurityMode,
} from './negotiate.js';
import { NtlmLogin } from './ntlm.js';
import { Protection } from './protection.js';
import { decodeSessionSetup, encodeSessionSetup, SessionFlag } from './session-setup.js';
import { Signer } from './signing.js';
import { decodeResponse, encodeInit, encodeResponse, MECHANISMS, offersNtlm } from './spnego.js';
import { logonError, Status, statusError, statusName } from './status.js';
import { decodeTreeConnect, encodeTreeConnect, ShareFlag, ShareType } from './tree-connect.js';
import { checkValidateNegotiate, encodeValidateNegotiate } from './validate-negotiate.js';

/** Each credit of a request pays for this much of its payload (MS-SMB2 § 3.1.5.2). */
export const CREDIT_UNIT = 64 * 1024;
/** Piece of a large read: large enough to keep the overhead small, small enough to have several under way. */
export const MAX_PIECE = 2 * 1024 * 1024;
const ANONYMOUS = 'anonymous';

export interface SessionOptions extends ConnectionOptions {
  share: string;
  credentials: SmbCredentials;
  encryption: 'if-required' | 'required';
  dialects: readonly Dialect[];
  ciphers: readonly Cipher[];
  signingAlgorithms: readonly SigningAlgorithm[];
  /** Take a guest's or an anonymous login, which can be neither signed nor encrypted. */
  allowGuest: boolean;
}

export const DEFAULT_DIALECTS: readonly Dialect[] = ['2.1', '3.0.2', '3.1.1'];
export const DEFAULT_CIPHERS = Object.keys(CIPHERS) as Cipher[];
export const DEFAULT_SIGNING = Object.keys(SIGNING_ALGORITHMS) as SigningAlgorithm[];

/** What the two sides agreed on. */
export interface Negotiated {
  dialect: Dialect;
  /** Undefined for a guest. */
  signing: SigningAlgorithm | undefined;
  /** Undefined when nothing is encrypted. */
  cipher: Cipher | undefined;
  maxReadSize: number;
}

/** SHA-512 over the messages before login (MS-SMB2 § 3.1.4.4.1), which dialect 3.1.1 puts into its keys. */
class PreauthHash {
  value: Buffer = Buffer.alloc(64);
  add(...messages: Buffer[]): void {
    for (const message of messages)
      this.value = createHash('sha512').update(this.value).update(message).digest();
  }
}

/** One login over `connection`, which has to be new. */
export class Login {
  readonly #options: SessionOptions;
  readonly #connection: Connection;

  constructor(options: SessionOptions, connection: Connection) {
    this.#options = options;
    this.#connection = connection;
  }

  async run(): Promise<Negotiated> {
    const options = this.#options;
    const hash = new PreauthHash();
    const offer: Offer = {
      dialects: options.dialects,
      ciphers: options.ciphers,
      signingAlgorithms: options.signingAlgorithms,
      securityMode: options.allowGuest ? SecurityMode.SIGNING_ENABLED : SecurityMode.SIGNING_REQUIRED,
      capabilities: Capability.LARGE_MTU | Capability.ENCRYPTION,
      clientGuid: randomBytes(16),
      host: options.host,
    };
    const agreement = await this.#negotiate(offer, hash);
    const keyed = await this.#authenticate(offer, agreement, hash);
    await this.#connectTree(agreement);
    if (keyed && agreement.dialect !== '3.1.1') await this.#validate(offer, agreement);
    const { protection, multiCredit } = this.#connection;
    const maxReadSize = multiCredit ? Math.min(MAX_PIECE, agreement.maxReadSize) : CREDIT_UNIT;
    this.#connection.allowData(maxReadSize);
    return {
      dialect: agreement.dialect,
      signing: keyed ? agreement.signingAlgorithm : undefined,
      cipher: protection.encrypting ? agreement.cipher : undefined,
      maxReadSize,
    };
  }

  async #negotiate(offer: Offer, hash: PreauthHash): Promise<Agreement> {
    const { request, response } = await this.#connection.request(Command.NEGOTIATE, encodeNegotiate(offer));
    const { status } = response.header;
    if (status === Status.NOT_SUPPORTED)
      throw dialectError(offer, this.#options.location, statusName(status));
    if (status !== Status.SUCCESS) throw statusError(status, this.#options.location);
    const agreement = decodeNegotiate(response.bytes, offer);
    if (agreement.maxReadSize < CREDIT_UNIT) throw protocolError(`a MaxReadSize of ${agreement.maxReadSize}`);
    hash.add(request, response.bytes);
    if (agreement.securityBlob.length > 0 && !offersNtlm(agreement.securityBlob)) {
      throw new SmbError(
        'AUTHENTICATION_UNSUPPORTED',
        `${this.#options.location}: the server does not take NTLM logins; allow NTLMv2 there`,
      );
    }
    this.#connection.multiCredit = (agreement.capabilities & Capability.LARGE_MTU) !== 0;
    return agreement;
  }

  /** SESSION_SETUP until the server is content; whether the session has keys. */
  async #authenticate(offer: Offer, agreement: Agreement, hash: PreauthHash): Promise<boolean> {
    const { credentials, host, location } = this.#options;
    const connection = this.#connection;
    const user = credentials.username === '' ? ANONYMOUS : credentials.username;
    const login = new NtlmLogin(credentials, host);

    const first = await connection.request(
      Command.SESSION_SETUP,
      encodeSessionSetup(encodeInit(login.negotiate()), offer.securityMode, 0n),
    );
    const { header } = first.response;
    if (header.status !== Status.MORE_PROCESSING_REQUIRED)
      throw this.#logonError(header.status, user, agreement);
    hash.add(first.request, first.response.bytes);
    const challenge = decodeResponse(decodeSessionSetup(first.response.bytes).token).responseToken;
    if (challenge === undefined) throw protocolError('a login without a challenge');
    const token = login.authenticate(challenge);
    connection.protection = new Protection(header.sessionId);

    const second = await connection.request(
      Command.SESSION_SETUP,
      encodeSessionSetup(
        encodeResponse(token, login.signature(MECHANISMS, 'client')),
        offer.securityMode,
        0n,
      ),
    );
    const { status } = second.response.header;
    if (status !== Status.SUCCESS) throw this.#logonError(status, user, agreement);
    hash.add(second.request);
    const { sessionFlags, token: finalToken } = decodeSessionSetup(second.response.bytes);
    if ((sessionFlags & (SessionFlag.GUEST | SessionFlag.NULL)) !== 0 || login.anonymous) {
      this.#acceptGuest(user);
      return false;
    }

    const keys = sessionKeys(agreement.dialect, login.sessionKey, hash.value, agreement.cipher);
    const signer = new Signer(agreement.signingAlgorithm, keys.signing);
    const { header: finalHeader, bytes } = second.response;
    // This response is the proof that the server knows the password, and in 3.1.1 that the hashes agree.
    if ((finalHeader.flags & HeaderFlag.SIGNED) === 0 || !signer.verify(bytes, finalHeader)) {
      throw new SmbError('SIGNATURE', `${location}: the login was not answered with a valid signature`);
    }
    const mic = finalToken.length === 0 ? undefined : decodeResponse(finalToken).mechListMic;
    if (mic !== undefined && !login.isServerSignature(mic, MECHANISMS)) {
      throw new SmbError('SIGNATURE', `${location}: the login was not answered with a valid mechListMIC`);
    }
    const { cipher } = agreement;
    const envelope = cipher && new Envelope(cipher, keys.encryption, keys.decryption);
    connection.protection = new Protection(header.sessionId, signer, envelope);
    if (this.#options.encryption === 'required') this.#encrypt('this host');
    if ((sessionFlags & SessionFlag.ENCRYPT_DATA) !== 0) this.#encrypt('the server');
    return true;
  }

  #logonError(status: number, user: string, agreement: Agreement): SmbError {
    const { location } = this.#options;
    if (status === Status.ACCESS_DENIED && agreement.cipher === undefined) {
      return new SmbError(
        'ACCESS_DENIED',
        `login as ${user} to ${location} was refused (${statusName(status)}); the server may require encryption, ` +
          `which SMB ${agreement.dialect} as agreed with it does not give`,
        { status: statusName(status) },
      );
    }
    return logonError(status, user, location);
  }

  #acceptGuest(user: string): void {
    const { allowGuest, encryption, location } = this.#options;
    if (!allowGuest || encryption === 'required') {
      const took =
        user === ANONYMOUS
          ? 'no user name was given, and an anonymous connection'
          : `the server took ${user} as a guest only, and a guest's connection`;
      throw new SmbError(
        'GUEST_REFUSED',
        `${location}: ${took} can be neither signed nor encrypted; give the name and password of a user of the server`,
      );
    }
  }

  #encrypt(who: string): void {
    const { protection } = this.#connection;
    if (!protection.canEncrypt) {
      throw new SmbError(
        'ENCRYPTION_UNAVAILABLE',
        `${this.#options.location}: ${who} requires encryption, and the two have no cipher in common; ` +
          'enable SMB 3 encryption on the server',
      );
    }
    protection.encrypt();
  }

  async #connectTree(agreement: Agreement): Promise<void> {
    const { host, share, location } = this.#options;
    const { response } = await this.#connection.request(Command.TREE_CONNECT, encodeTreeConnect(host, share));
    const { status } = response.header;
    if (status === Status.BAD_NETWORK_NAME) {
      const name = statusName(status);
      throw new SmbError(
        'SHARE_NOT_FOUND',
        `${location}: the server has no share "${share}" (${name}); check its name`,
        {
          status: name,
        },
      );
    }
    if (status === Status.ACCESS_DENIED && agreement.cipher === undefined) {
      const name = statusName(status);
      throw new SmbError(
        'ACCESS_DENIED',
        `${location}: the server denied access (${name}); check the permissions of this user, and whether the ` +
          `share requires encryption, which SMB ${agreement.dialect} as agreed with it does not give`,
        { status: name },
      );
    }
    if (status !== Status.SUCCESS) throw statusError(status, location);
    const tree = decodeTreeConnect(response.bytes);
    if (tree.shareType !== ShareType.DISK) {
      throw new SmbError('SHARE_NOT_FOUND', `${location}: "${share}" is a printer or a pipe, not a folder`);
    }
    this.#connection.treeId = treeIdOf(response.header);
    if ((tree.shareFlags & ShareFlag.ENCRYPT_DATA) !== 0) this.#encrypt('the share');
  }

  async #validate(offer: Offer, agreement: Agreement): Promise<void> {
    const { response } = await this.#connection.request(Command.IOCTL, encodeValidateNegotiate(offer));
    const { status } = response.header;
    // A server that does not know this request says so, signed, and is believed (MS-SMB2 § 3.2.5.14.12).
    const unknown: number[] = [Status.NOT_SUPPORTED, Status.INVALID_DEVICE_REQUEST, Status.FILE_CLOSED];
    if (unknown.includes(status)) return;
    if (status !== Status.SUCCESS) throw statusError(status, this.#options.location);
    checkValidateNegotiate(response.bytes, agreement);
  }
}
