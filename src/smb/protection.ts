/**
 * What guards the messages of one connection: nothing before login, then signatures, or the encrypting envelope.
 *
 * `pack` makes an outgoing packet, `unpack` checks an incoming one: once there are keys, a response that is not
 * signed (or, where encryption is on, not encrypted) never gets past here (MS-SMB2 § 3.2.5.1).
 */
import { Envelope, TRANSFORM_MAGIC } from './encryption.js';
import { protocolError, SmbError } from './error.js';
import {
  HEADER,
  type Header,
  HeaderFlag,
  type Message,
  SMB2_MAGIC,
  splitCompound,
  UNSOLICITED,
} from './header.js';
import type { Signer } from './signing.js';
import { Status } from './status.js';

/** A request, and of its header what neither its place in a compound nor the session says. */
export interface Unpacked {
  header: Omit<Header, 'nextCommand' | 'sessionId' | 'signature'>;
  body: Buffer;
}

export class Protection {
  readonly sessionId: bigint;
  readonly #signer: Signer | undefined;
  readonly #envelope: Envelope | undefined;
  #encrypting = false;

  constructor(sessionId: bigint, signer?: Signer, envelope?: Envelope) {
    this.sessionId = sessionId;
    this.#signer = signer;
    this.#envelope = envelope;
  }

  get encrypting(): boolean {
    return this.#encrypting;
  }

  get canEncrypt(): boolean {
    return this.#envelope !== undefined;
  }

  /** From now on everything is encrypted, in both directions. */
  encrypt(): void {
    this.#encrypting = true;
  }

  /**
   * The messages without envelope, and the packet to send. Several are a compound of related requests (§ 3.2.4.1.4):
   * one packet, sealed as a whole, in which each message is signed together with its padding (§ 3.1.4.1).
   */
  pack(requests: readonly Unpacked[]): { messages: Buffer[]; packet: Buffer } {
    const signed = this.#signer !== undefined && !this.#encrypting;
    const messages = requests.map(({ header, body }, i) => {
      const length = HEADER.size + body.length;
      const isLast = i === requests.length - 1;
      const message = Buffer.alloc(isLast ? length : Math.ceil(length / 8) * 8);
      const related = i === 0 ? 0 : HeaderFlag.RELATED;
      const whole = {
        ...header,
        flags: header.flags | related | (signed ? HeaderFlag.SIGNED : 0),
        nextCommand: isLast ? 0 : message.length,
        sessionId: this.sessionId,
        signature: NO_SIGNATURE,
      };
      HEADER.encode(whole, message);
      message.set(body, HEADER.size);
      if (signed) this.#signer!.sign(message, whole);
      return message;
    });
    const packet = messages.length === 1 ? messages[0]! : Buffer.concat(messages);
    return { messages, packet: this.#encrypting ? this.#envelope!.seal(packet, this.sessionId) : packet };
  }

  /** Whether `unpack` gives messages in memory of their own, not in the frame's. */
  opensCopy(frame: Buffer): boolean {
    return (
      this.#envelope?.inPlace === false && frame.length >= 4 && frame.readUInt32LE(0) === TRANSFORM_MAGIC
    );
  }

  /** The messages of a frame, each of them vouched for. */
  unpack(frame: Buffer): Message[] {
    if (frame.length < 4) throw protocolError(`a frame of ${frame.length} bytes`);
    const magic = frame.readUInt32LE(0);
    if (magic === TRANSFORM_MAGIC && this.#envelope !== undefined) {
      return this.#ours(splitCompound(this.#envelope.open(frame, this.sessionId)));
    }
    if (magic !== SMB2_MAGIC) throw protocolError('a message that is not of SMB 2 or 3');
    const messages = splitCompound(frame);
    if (this.#signer === undefined) return messages;
    const due = messages.filter((message) => message.header.messageId !== UNSOLICITED);
    if (this.#encrypting && due.length > 0) {
      throw new SmbError('SIGNATURE', 'the server sent an unencrypted response on an encrypted connection');
    }
    for (const message of due) this.#verify(message);
    return this.#ours(due);
  }

  #verify({ header, bytes }: Message): void {
    // An interim response is not signed (§ 3.2.5.1.3); it says nothing but "wait", and brings credits.
    if (header.status === Status.PENDING) return;
    if ((header.flags & HeaderFlag.SIGNED) === 0) {
      throw new SmbError('SIGNATURE', 'the server sent an unsigned response on a signed connection');
    }
    if (!this.#signer!.verify(bytes, header)) {
      throw new SmbError('SIGNATURE', 'the server sent a response with a wrong signature');
    }
  }

  #ours(messages: Message[]): Message[] {
    if (messages.some(({ header }) => header.sessionId !== this.sessionId)) {
      throw protocolError('a response for another session');
    }
    return messages;
  }
}

const NO_SIGNATURE = Buffer.alloc(16);
