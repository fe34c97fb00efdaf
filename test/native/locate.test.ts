/** Where the steps of another image's startup profile lead: in an image index that anybody may have written. */
import test from 'ava';
import fc from 'fast-check';
import { BLOCK_SIZE } from '../../src/erofs/tree.js';
import { ACCESS_KINDS, type PathAccess } from '../../src/native/access.js';
import { directory, file, imageOf, symlink } from '../erofs/tree-arbitrary.js';
import { type Served, serve } from './kernel.js';
import { BLOCK, DEVICE_SIZE, start, tree, withoutData } from './sample-index.js';

const PAGES_OF_BLOCK = BLOCK / 4096;
const step = (kind: PathAccess['kind'], path: string, first = 0, count = 1): PathAccess => ({
  ...{ kind, path, first, count },
});
const at = (number: number, device: number, first: number, count: number) => ({
  ...{ step: number, device, first, count },
});

test('a step applies where the image has what it asks for, by type, or lacks what was absent', async (t) => {
  const { session } = start(
    t,
    directory({
      usr: directory({
        lib: directory({ a: file(10_000, [{ fileOffset: 0, device: 1, block: 7, blocks: 3 }]) }),
      }),
      link: symlink('usr'),
      empty: file(0),
    }),
  );
  const steps: [PathAccess, boolean][] = [
    [step('name', ''), true],
    [step('name', 'usr/lib'), true],
    [step('name', 'usr/lib/a'), true],
    [step('name', 'usr/lib/b'), false],
    [step('name', 'link/lib'), false],
    [step('listing', 'usr'), true],
    [step('listing', 'usr/lib/a'), false],
    [step('listing', 'link'), false],
    [step('link', 'link'), true],
    [step('link', 'usr'), false],
    [step('absent', 'usr/lib/b'), true],
    [step('absent', 'usr/lib/a'), false],
    [step('absent', 'usr/bin/b'), false],
    [step('absent', 'usr/lib/a/b'), false],
    [step('pages', 'usr/lib/a', 2), true],
    [step('pages', 'usr/lib/a', 3), false],
    [step('pages', 'usr/lib'), false],
    [step('pages', 'link'), false],
    [step('pages', 'empty'), false],
    ...[
      '/usr',
      'usr/',
      'usr//lib',
      '.',
      './usr',
      '..',
      '../usr',
      'usr/../usr',
      'a\0b',
      '\0',
      'x'.repeat(256),
    ].flatMap((path) =>
      [step('name', path), step('listing', path), step('pages', path)].map((one): [PathAccess, boolean] => [
        one,
        false,
      ]),
    ),
    [step('name', 'usr/'.repeat(20_000)), false],
  ];
  const { steps: found, blocks } = await session.locate(steps.map(([one]) => one));
  t.deepEqual(
    found.map((one) => one.step),
    steps.flatMap(([, applies], index) => (applies ? [index] : [])),
  );
  t.deepEqual(blocks, [at(14, 0, 0, 1)]);
});

test('blocks are named once, by the first step that asks for them; pages behind the end are cut off', async (t) => {
  const { session } = start(t);
  const { steps, blocks } = await session.locate([
    step('pages', 'big', 3 * PAGES_OF_BLOCK - 1, 2),
    step('pages', 'big', 0, 4 * PAGES_OF_BLOCK),
    step('pages', 'big', 30 * PAGES_OF_BLOCK, 0xffffffff),
    step('pages', 'big', 1, 1),
    // The hole has no block, and what follows it lies in the first.
    step('pages', 'sparse', 0, 5),
  ]);
  t.deepEqual(
    steps.map(({ count }) => count),
    [2, 4 * PAGES_OF_BLOCK, 10 * PAGES_OF_BLOCK, 1, 5],
  );
  t.deepEqual(blocks, [at(0, 0, 2, 2), at(1, 0, 0, 2), at(2, 0, 30, 10)]);
});

test('what is not of use to a startup profile is not looked for: more pages, more blocks', async (t) => {
  // 17 files of 4096 blocks of the smallest size each.
  const size = 4096 * 4096;
  const blocks = size / BLOCK_SIZE;
  const files = Array.from({ length: 17 }, (_, index) => [
    `f${index}`,
    file(size, [{ fileOffset: 0, device: 1, block: index * blocks, blocks }]),
  ]);
  const device = 17 * size;
  const index = imageOf(directory(Object.fromEntries(files)), {
    dataBlocks: 0,
    devices: [{ tag: 'a'.repeat(64), blocks: device / BLOCK_SIZE }],
  });
  const served = serve(index, [device], { blockSize: 4096 });
  t.teardown(() => served.close());
  const all = files.map(([name]) => step('pages', name as string, 0, 0xffffffff));
  const found = await served.session.locate(all);
  t.is(
    found.blocks.reduce((sum, { count }) => sum + count, 0),
    65536,
  );
  t.true(found.steps.length < all.length);
  const again = await served.session.locate(Array.from({ length: 1000 }, () => all[0]!));
  t.is(again.steps.length, 512, 'two million pages');
  t.is(again.blocks.length, 1);
});

test('a session that has ended knows nothing any more', async (t) => {
  const { session } = start(t);
  const before = session.locate([step('name', 'big')]);
  await session.close();
  t.deepEqual(await session.locate([step('name', 'big')]), { steps: [], blocks: [] });
  t.is((await before).steps.length, 1);
});

test('arguments that are none are refused', async (t) => {
  const { session } = start(t);
  for (const bad of [{ path: 7 }, { first: -1 }, { count: 0 }, { count: 2 ** 40 }])
    await t.throwsAsync(session.locate([{ ...step('name', 'big'), ...bad } as never]));
  const bogus = [{ ...step('name', 'big'), kind: 'bogus' as never }, step('name', 'big')];
  t.deepEqual(await session.locate(bogus), { steps: [], blocks: [] });
});

const anyStep: fc.Arbitrary<PathAccess> = fc.record({
  kind: fc.constantFrom(...ACCESS_KINDS),
  path: fc.oneof(
    fc.constantFrom('', 'big', 'sparse', 'link', 'null', 'many', 'many/entry-7', 'many/entry-700', 'big/x'),
    fc.string({ unit: 'binary', maxLength: 20 }).map((text) => Buffer.from(text).toString('latin1')),
    fc
      .array(fc.constantFrom('many', '..', '.', '', 'entry-1', 'big'), { maxLength: 6 })
      .map((parts) => parts.join('/')),
  ),
  first: fc.oneof(fc.nat({ max: 700 }), fc.nat({ max: 0xffffffff })),
  count: fc.oneof(fc.integer({ min: 1, max: 700 }), fc.integer({ min: 1, max: 0xffffffff })),
});

async function holds(t: { true(value: boolean): void }, served: Served, steps: PathAccess[]): Promise<void> {
  const { steps: found, blocks } = await served.session.locate(steps);
  t.true(found.every(({ step: number }, index) => number > (found[index - 1]?.step ?? -1)));
  t.true(found.every(({ step: number, count }) => count >= 1 && count <= Math.max(1, steps[number]!.count)));
  const seen = new Set<number>();
  for (const { step: number, device, first, count } of blocks) {
    t.true(device === 0 && steps[number]!.kind === 'pages' && first + count <= DEVICE_SIZE / BLOCK);
    for (let block = first; block < first + count; block++) {
      t.true(!seen.has(block));
      seen.add(block);
    }
  }
}

test('whatever the steps are, what is found lies in the image', async (t) => {
  const served = start(t);
  await fc.assert(
    fc.asyncProperty(fc.array(anyStep, { maxLength: 30 }), (steps) => holds(t, served, steps)),
    { numRuns: 300 },
  );
});

test('whatever the index is, what is found lies in its devices', async (t) => {
  const sound = withoutData(tree());
  const damages = fc.array(fc.tuple(fc.nat({ max: sound.length - 1 }), fc.nat({ max: 255 })), {
    minLength: 1,
    maxLength: 40,
  });
  let served = 0;
  await fc.assert(
    fc.asyncProperty(damages, fc.array(anyStep, { maxLength: 30 }), async (damage, steps) => {
      const index = Buffer.from(sound);
      // The superblock stays, or hardly an image would be opened.
      for (const [position, byte] of damage) if (position > 2048) index[position] = byte;
      let image: Served;
      try {
        image = serve(index, [DEVICE_SIZE]);
      } catch {
        return;
      }
      served += 1;
      try {
        await holds(t, image, steps);
      } finally {
        await image.close();
      }
    }),
    { numRuns: 200 },
  );
  t.true(served > 20);
});
