/** What the HTTP client or a registry throws, in the words of sources. */
import { OciError } from '../oci/oci-error.js';
import { SourceError } from './source.js';

/** Codes of RegistryError that a source has, too, or another word for. */
const SOURCE_CODES: Readonly<Record<string, string>> = {
  UNREACHABLE: 'UNREACHABLE',
  TIMEOUT: 'TIMEOUT',
  CONNECTION_LOST: 'CONNECTION_LOST',
  TOO_LARGE: 'TOO_LARGE',
  UNAVAILABLE: 'UNREACHABLE',
  TOOMANYREQUESTS: 'UNREACHABLE',
  UNAUTHORIZED: 'BAD_CREDENTIALS',
  BAD_CREDENTIALS: 'BAD_CREDENTIALS',
  DENIED: 'ACCESS_DENIED',
};

/** Rejects with the SourceError that stands for the error of the HTTP client or of the registry. */
export async function asSource<T>(promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (cause) {
    if (!(cause instanceof OciError)) throw cause;
    const { code, retryable } = cause;
    throw new SourceError(SOURCE_CODES[code] ?? 'PROTOCOL', cause.message, { cause, retryable });
  }
}
