/**
 * IOCTL with FSCTL_VALIDATE_NEGOTIATE_INFO (MS-SMB2 § 2.2.31.4 and 2.2.32.6): before dialect 3.1.1, the signed
 * proof that nobody changed the negotiation on its way.
 */
import { DIALECTS } from './algorithms.js';
import { protocolError, SmbError } from './error.js';
import { HEADER_SIZE } from './header.js';
import { bytes, constant, Layout, reserved, slice, structureSize, u16, u32 } from './layout.js';
import type { Agreement, Offer } from './negotiate.js';

const FSCTL_VALIDATE_NEGOTIATE_INFO = 0x00140204;
const IS_FSCTL = 1;

export const IOCTL_REQUEST = new Layout('IOCTL request', {
  structureSize: structureSize(57),
  reserved: reserved(2),
  ctlCode: u32,
  fileId: bytes(16),
  inputOffset: u32,
  inputCount: u32,
  maxInputResponse: u32,
  outputOffset: u32,
  outputCount: u32,
  maxOutputResponse: u32,
  flags: u32,
  reserved2: reserved(4),
});

export const IOCTL_RESPONSE = new Layout('IOCTL response', {
  structureSize: structureSize(49),
  reserved: reserved(2),
  ctlCode: constant(u32, FSCTL_VALIDATE_NEGOTIATE_INFO, 'CtlCode'),
  fileId: bytes(16),
  inputOffset: u32,
  inputCount: u32,
  outputOffset: u32,
  outputCount: u32,
  flags: u32,
  reserved2: reserved(4),
});

export const VALIDATE_REQUEST = new Layout('VALIDATE_NEGOTIATE_INFO request', {
  capabilities: u32,
  guid: bytes(16),
  securityMode: u16,
  dialectCount: u16,
});

export const VALIDATE_RESPONSE = new Layout('VALIDATE_NEGOTIATE_INFO response', {
  capabilities: u32,
  guid: bytes(16),
  securityMode: u16,
  dialect: u16,
});

export function encodeValidateNegotiate(offer: Offer): Buffer {
  const fixed = VALIDATE_REQUEST.encode({
    capabilities: offer.capabilities,
    guid: offer.clientGuid,
    securityMode: offer.securityMode,
    dialectCount: offer.dialects.length,
  });
  const dialects = Buffer.alloc(offer.dialects.length * 2);
  for (const [i, name] of offer.dialects.entries()) dialects.writeUInt16LE(DIALECTS[name], i * 2);
  const ioctl = IOCTL_REQUEST.encode({
    ctlCode: FSCTL_VALIDATE_NEGOTIATE_INFO,
    fileId: Buffer.alloc(16, 0xff),
    inputOffset: HEADER_SIZE + IOCTL_REQUEST.size,
    inputCount: fixed.length + dialects.length,
    maxInputResponse: 0,
    outputOffset: 0,
    outputCount: 0,
    maxOutputResponse: VALIDATE_RESPONSE.size,
    flags: IS_FSCTL,
  });
  return Buffer.concat([ioctl, fixed, dialects]);
}

/** Throws PROTOCOL when what the server says it negotiated is not what reached us. */
export function checkValidateNegotiate(message: Buffer, agreement: Agreement): void {
  const fixed = IOCTL_RESPONSE.decode(message, HEADER_SIZE);
  const output = slice(message, fixed.outputOffset, fixed.outputCount, 'the negotiation it validates');
  if (output.length !== VALIDATE_RESPONSE.size) throw protocolError(`a validation of ${output.length} bytes`);
  const info = VALIDATE_RESPONSE.decode(output);
  if (
    info.capabilities !== agreement.capabilities ||
    !info.guid.equals(agreement.serverGuid) ||
    info.securityMode !== agreement.securityMode ||
    info.dialect !== DIALECTS[agreement.dialect]
  ) {
    throw new SmbError('PROTOCOL', 'the negotiation was changed between the server and this host');
  }
}
