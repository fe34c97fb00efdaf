/** Paths of files on a share: `/` between parts for the caller, `\` on the wire. */
import { SmbError } from './error.js';

/** Characters that no file name on a share may have (MS-FSCC § 2.1.5); `:` would name a stream. */
const FORBIDDEN = /[\\:*?"<>|\u0000-\u001f]/;

/** The name as CREATE takes it: backslashes, no separator at its ends, empty for the root. */
export function toShareName(path: string): string {
  const parts = path.split('/').filter((part) => part !== '');
  for (const part of parts) {
    if (part === '.' || part === '..' || FORBIDDEN.test(part) || part.length > 255) {
      throw new SmbError('INVALID_PATH', `${JSON.stringify(path)}: not a path that a share can have`);
    }
  }
  return parts.join('\\');
}
