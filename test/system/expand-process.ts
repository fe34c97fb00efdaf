/**
 * Expands an image in a process of its own, so that tests can run several at once and kill them:
 * `node expand-process.js INPUT STORE`. Prints one line `STATE DIFFID` per layer that is done, and `image DIGEST`.
 */
import { Store } from '../../src/image/store.js';
import { openImageInput } from '../../src/oci/image-input.js';

const [, , spec = '', dir = ''] = process.argv;
const store = await Store.open(dir, { create: true });
const input = await openImageInput(spec);
const image = await store.expand(input, {
  onProgress: ({ layer, state }) => {
    if (state === 'expanded' || state === 'reused') console.log(`${state} ${layer}`);
  },
});
await input.close();
console.log(`image ${image.manifestDigest}`);
