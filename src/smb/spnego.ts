/** SPNEGO tokens (RFC 4178, MS-SPNG) with one mechanism, NTLMSSP. */
import { decodeDer, encodeDer, unwrapDer } from './der.js';
import { protocolError } from './error.js';

const OID_SPNEGO = Buffer.from([0x06, 0x06, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x02]);
const OID_NTLMSSP = Buffer.from('060a2b06010401823702020a', 'hex');

const APPLICATION_0 = 0x60;
const SEQUENCE = 0x30;
const OCTET_STRING = 0x04;
const ENUMERATED = 0x0a;
const context = (n: number) => 0xa0 + n;

/** The mechanisms we offer, as the exact bytes that the mechListMIC is computed over. */
export const MECHANISMS = encodeDer(SEQUENCE, OID_NTLMSSP);

/** The first token of a client: NegTokenInit with an optimistic NTLM token. */
export function encodeInit(mechToken: Buffer): Buffer {
  const init = encodeDer(
    SEQUENCE,
    encodeDer(context(0), MECHANISMS),
    encodeDer(context(2), encodeDer(OCTET_STRING, mechToken)),
  );
  return encodeDer(APPLICATION_0, OID_SPNEGO, encodeDer(context(0), init));
}

/** The token that follows: NegTokenResp. */
export function encodeResponse(responseToken: Buffer, mechListMic: Buffer): Buffer {
  const response = encodeDer(
    SEQUENCE,
    encodeDer(context(2), encodeDer(OCTET_STRING, responseToken)),
    encodeDer(context(3), encodeDer(OCTET_STRING, mechListMic)),
  );
  return encodeDer(context(1), response);
}

/** Whether the token of a NEGOTIATE response (NegTokenInit2, MS-SPNG § 2.2.1) names NTLMSSP. */
export function offersNtlm(token: Buffer): boolean {
  const [oid, init] = decodeDer(unwrapDer(token, APPLICATION_0));
  if (oid === undefined || !oid.whole.equals(OID_SPNEGO) || init?.tag !== context(0)) {
    throw protocolError('a security token that is not SPNEGO');
  }
  const mechanisms = decodeDer(unwrapDer(init.content, SEQUENCE)).find((e) => e.tag === context(0));
  if (mechanisms === undefined) return false;
  return decodeDer(unwrapDer(mechanisms.content, SEQUENCE)).some((e) => e.whole.equals(OID_NTLMSSP));
}

export type NegotiationState = 'completed' | 'incomplete' | 'rejected' | 'request-mic';
const STATES: readonly NegotiationState[] = ['completed', 'incomplete', 'rejected', 'request-mic'];

export interface SpnegoResponse {
  state: NegotiationState | undefined;
  responseToken: Buffer | undefined;
  mechListMic: Buffer | undefined;
}

/** Takes apart a NegTokenResp. */
export function decodeResponse(token: Buffer): SpnegoResponse {
  const fields = decodeDer(unwrapDer(unwrapDer(token, context(1)), SEQUENCE));
  const field = (n: number, tag: number) => {
    const found = fields.find((e) => e.tag === context(n));
    return found && unwrapDer(found.content, tag);
  };
  const state = field(0, ENUMERATED);
  return {
    state: state && STATES[state[0] ?? -1],
    responseToken: field(2, OCTET_STRING),
    mechListMic: field(3, OCTET_STRING),
  };
}
