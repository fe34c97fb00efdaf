/** Images that were pulled to be mounted, and who gets them. */
import { setTimeout as sleep } from 'node:timers/promises';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import type { ImageOrder, PullOrder } from '../../src/daemon/api.js';
import { PreparedImages } from '../../src/daemon/prepared-images.js';
import { DEFAULT_BLOCK_SIZE } from '../../src/layer/block-digests.js';
import type { OpenedImage } from '../../src/mount/open-image.js';
import { openUnexpandedImage } from '../../src/mount/unexpanded-image.js';
import { digestOf } from '../../src/oci/digest.js';
import { formatReference } from '../../src/oci/reference.js';
import { Random } from '../image/random.js';
import { addEstargzImage, type Host, startHost, stopHost } from '../mount/host.js';
import { member } from '../tar/archive.js';

interface Context extends Host {
  prepared: PreparedImages;
  opened: OpenedImage;
  closed: () => boolean;
  /** As who pulls names it, and as who mounts it. */
  pulled: PullOrder;
  pinned: ImageOrder;
}

const test = anyTest as TestFn<Context>;
const WANTED = new Random(1).bytes(700_000);
const OTHER = new Random(2).bytes(900_000);
const FRONT_BLOCKS = Math.ceil((4096 + WANTED.length) / DEFAULT_BLOCK_SIZE);

test.beforeEach(async (t) => {
  const host = await startHost();
  const { registry, client, cache } = host;
  const landmark = member({ name: '.prefetch.landmark' }, '\x0f');
  const members = [member({ name: 'w' }, WANTED), landmark, member({ name: 'o' }, OTHER)];
  const manifestDigest = addEstargzImage(host, members);
  const opened = await openUnexpandedImage({
    repository: client.repository(registry.app),
    manifestDigest,
    cache,
  });
  let closed = false;
  const close = async () => {
    closed = true;
    await opened.close();
  };
  const { domain, path } = registry.app;
  t.context = {
    ...host,
    prepared: new PreparedImages(cache),
    opened: { ...opened, close },
    closed: () => closed,
    pulled: { image: formatReference({ domain, path, tag: '1' }), environment: { HOME: '/root' } },
    pinned: {
      image: formatReference({ domain, path, digest: manifestDigest }),
      environment: { HOME: '/root' },
    },
  };
});

test.afterEach.always(async (t) => {
  await t.context.prepared.giveUp();
  await stopHost(t.context);
});

/** Blocks of the layer that are in the cache. */
async function present({ context: { cache, opened } }: ExecutionContext<Context>): Promise<number> {
  const lease = await cache.openLayer(opened.image.devices[0]!.digests, []);
  const count = lease.layer.blockFile.count();
  await lease.close();
  return count;
}

test('what containers want first is fetched before there is a mount, and nothing else', async (t) => {
  const { prepared, opened, pulled, pinned, closed } = t.context;
  prepared.keep(pulled, opened);
  while ((await present(t)) < FRONT_BLOCKS) await sleep(10);
  t.is(prepared.take(pinned), opened);
  t.false(closed());
  await opened.close();
  t.is(await present(t), FRONT_BLOCKS);
});

test('without the use of profiles it is only kept open', async (t) => {
  const { prepared, opened, pulled, pinned } = t.context;
  prepared.keep({ ...pulled, profiles: 'off' }, opened);
  t.is(prepared.take(pinned), opened);
  await opened.close();
  t.is(await present(t), 0);
});

test('one mount gets it, if it asks for the same image in the same way', async (t) => {
  const { prepared, opened, pulled, pinned } = t.context;
  prepared.keep(pulled, opened);
  t.is(prepared.take(pulled), undefined, 'a tag may mean another image by now');
  t.is(prepared.take({ ...pinned, environment: { HOME: '/home/other' } }), undefined);
  t.is(prepared.take({ ...pinned, region: 'elsewhere' }), undefined);
  t.is(prepared.take({ ...pinned, store: 'file:/srv' }), undefined);
  t.is(prepared.take({ ...pinned, layers: 2 }), undefined);
  t.is(prepared.take({ ...pinned, image: pinned.image.replace('app', 'other') }), undefined);
  t.is(prepared.take({ ...pinned, layers: 1 }), opened);
  t.is(prepared.take(pinned), undefined);
  await opened.close();
});

test('what is given up is closed, and its image can be removed', async (t) => {
  const { prepared, opened, pulled, pinned, closed, cache } = t.context;
  const { manifestDigest } = opened.image;
  prepared.keep(pulled, opened);
  await prepared.giveUp(digestOf(Buffer.from('another')));
  t.false(closed());
  await prepared.giveUp(manifestDigest);
  t.true(closed());
  t.is(prepared.take(pinned), undefined);
  t.deepEqual(await cache.images.evictable({ pinned: true }), [manifestDigest]);
});

test('who pulls again keeps what was opened last', async (t) => {
  const { prepared, opened, pulled, pinned, closed } = t.context;
  const again = { ...opened, close: async () => undefined };
  prepared.keep(pulled, opened);
  prepared.keep(pulled, again);
  t.is(prepared.take(pinned), again);
  while (!closed()) await sleep(10);
  t.pass();
});
