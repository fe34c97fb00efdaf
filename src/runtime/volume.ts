/** `-v SRC:DST[:ro|rw]`: a directory or file of the host, seen inside the container. */
import { posix, resolve } from 'node:path';
import { RuntimeError } from './runtime-error.js';

export interface Volume {
  /** Absolute path on the host. */
  source: string;
  /** Absolute, normalised path in the container; never `/`. */
  destination: string;
  readOnly: boolean;
}

/**
 * Relative sources are relative to `directory` and start with a dot, since a bare name is a named volume
 * to Docker, which Orca does not have. Throws INVALID_OPTION. Whether the source exists is checked by the caller.
 */
export function parseVolume(text: string, directory = process.cwd()): Volume {
  const [source = '', destination = '', mode = 'rw', ...rest] = text.split(':');
  const fail = (why: string) => new RuntimeError('INVALID_OPTION', `-v ${text}: ${why}`);
  if (rest.length > 0 || destination === '') throw fail('write SRC:DST or SRC:DST:ro');
  if (mode !== 'rw' && mode !== 'ro')
    throw fail(`unknown option ${JSON.stringify(mode)}, ro and rw are known`);
  if (!/^[./]/.test(source)) throw fail(`there are no named volumes; write ./${source} for a path`);
  if (!destination.startsWith('/')) throw fail('the path in the container must be absolute');
  const normal = posix.resolve(destination);
  if (normal === '/') throw fail('the path in the container must not be /');
  return { source: resolve(directory, source), destination: normal, readOnly: mode === 'ro' };
}
