/** Mounts an image of a store, says so on stdout, and stays until it is killed: node mount-process.js STORE NAME CACHE MOUNTPOINT */
import { BlockCache } from '../../src/cache/block-cache.js';
import { mountImage } from '../../src/mount/mount.js';
import { openSource } from '../../src/source/open-source.js';
import { loadImage } from '../../src/source/remote-image.js';

const [store = '', name = '', cacheDirectory = '', mountpoint = ''] = process.argv.slice(2);
const source = await openSource(store);
const cache = await BlockCache.open(cacheDirectory);
const image = await loadImage(source, name, cache.directory);
const mount = await mountImage({ image, sources: [source], cache, mountpoint });
process.stdout.write('mounted\n');
await mount.ended;
