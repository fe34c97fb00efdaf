/** `orca doctor`: looks at everything that a container needs of this host and of the others. */
import type { ImageRequest } from '../mount/open-image.js';
import { checkCacheDirectory, checkRunDirectory } from './directories.js';
import type { Finding } from './finding.js';
import { checkFilesystems, checkFuseDevice, checkKernel, checkReadAhead } from './kernel.js';
import { checkRunc, checkUser } from './programs.js';
import { checkRegistry, checkStore } from './remote.js';
import { checkDaemon, checkSnapshotter } from './services.js';

export interface Patient {
  version: string;
  /** Absolute. */
  cache: string;
  cacheSize?: number | undefined;
  runDirectory: string;
  socket: string;
  /** With a store, `image` may be empty: the store alone is looked at. Without either, no other host is. */
  request: ImageRequest;
}

/** Never rejects for what it finds; changes nothing on this host. */
export async function examine(patient: Patient): Promise<Finding[]> {
  const { version, cache, cacheSize, runDirectory, socket, request } = patient;
  const findings = await Promise.all([
    checkKernel(),
    checkFilesystems(),
    checkFuseDevice(),
    checkUser(),
    checkRunc(),
    checkReadAhead(),
    checkCacheDirectory(cache, cacheSize),
    checkRunDirectory(runDirectory),
    checkDaemon(socket, version, cache),
    checkSnapshotter(),
    checkOthers(request),
  ]);
  return findings.flat().filter((finding) => finding !== undefined);
}

async function checkOthers(request: ImageRequest): Promise<Finding[]> {
  const { store, credentials, image } = request;
  if (store !== undefined)
    return await checkStore({ store, credentials, image: image === '' ? undefined : image });
  return image === '' ? [] : await checkRegistry(request);
}
