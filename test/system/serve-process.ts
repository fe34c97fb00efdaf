/**
 * Serves an image index, with the blocks of a blob file for a source, until stdin ends.
 *
 * The only argument is a JSON object (see ServeOptions). Prints `ready` when requests are being answered.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { addon } from '../../src/native/addon.js';

export interface ServeOptions {
  indexPath: string;
  /** The one device's content; absent for an image without devices. */
  blobPath?: string;
  cacheDir: string;
  /** Where to mount; or else the mounted descriptor is inherited as 3. */
  mountpoint?: string;
  adopt?: boolean;
  /** Run as this user, which mounts through fusermount3. */
  uid?: number;
  /** Blocks are not fetched at all. */
  stuck?: boolean;
  /** End without unmounting or closing anything. */
  abandon?: boolean;
}

const BLOCK = 131072;
const options = JSON.parse(process.argv[2] ?? '{}') as ServeOptions;
if (options.uid !== undefined) {
  process.setgroups?.([]);
  process.setgid?.(options.uid);
  process.setuid?.(options.uid);
}

const blob = options.blobPath === undefined ? undefined : openSync(options.blobPath, 'r');
const size = blob === undefined ? 0 : fstatSync(blob).size;
const files =
  blob === undefined
    ? []
    : [
        new addon.BlockFile({
          dataPath: join(options.cacheDir, 'data'),
          mapPath: join(options.cacheDir, 'map'),
          size,
          blockSize: BLOCK,
        }),
      ];
const fd =
  options.mountpoint === undefined ? 3 : addon.mountFuse(options.mountpoint, { source: 'orca:a,b\\c' });
const session = new addon.Session({
  fd,
  indexPath: options.indexPath,
  blockFiles: files,
  adopt: options.adopt ?? false,
  onMiss(device, first, count) {
    if (options.stuck) {
      console.log('miss');
      return;
    }
    for (let block = first; block < first + count; block++) {
      const bytes = new Uint8Array(Math.min(BLOCK, size - block * BLOCK));
      readSync(blob!, bytes, 0, bytes.length, block * BLOCK);
      // A share is not that quick: the reader has to wait for a moment.
      setTimeout(() => void files[device]!.put(block, bytes), 3);
    }
  },
  onEnd: (reason, message) => console.log(`end ${reason} ${message}`),
});
console.log('ready');
process.stdin.on('data', () => {
  console.log(JSON.stringify({ ...session.stats(), blocksTouched: session.touched().length }));
});
process.stdin.on('end', async () => {
  if (options.abandon) process.exit(0);
  if (options.mountpoint !== undefined) addon.umount(options.mountpoint, 0);
  await session.close();
  await Promise.all(files.map((file) => file.close()));
  if (blob !== undefined) closeSync(blob);
});
