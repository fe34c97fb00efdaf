/**
 * A process that mounts one image and answers for it: what `mounted-image.ts` forks. It must be another process than
 * the measuring one, since a reader of the mount must not block the event loop that fetches for it.
 */
import { BlockCache } from '../src/cache/block-cache.js';
import { mountImage } from '../src/mount/mount.js';
import { openImage } from '../src/mount/open-image.js';
import type { MountRequest } from './mounted-image.js';

const request = JSON.parse(process.argv[2]!) as MountRequest;
const cache = await BlockCache.open(request.cache);
const { image, sources, close } = await openImage(request, cache);
const mount = await mountImage({
  image,
  sources,
  cache,
  mountpoint: request.mountpoint,
  ...(request.profile === false && { profiles: 'off' as const }),
  ...(request.preload === undefined ? {} : { preload: request.preload }),
  ...(request.readAhead === undefined ? {} : { readAhead: request.readAhead }),
});
process.on('message', (command: 'stats' | 'unmount') => {
  if (command === 'stats') process.send!(mount.stats());
  else mount.unmount().catch((error: Error) => process.send!({ error: error.message }));
});
void mount.ended.then(async () => {
  await close();
  cache.close();
  process.disconnect();
});
process.send!('mounted');
