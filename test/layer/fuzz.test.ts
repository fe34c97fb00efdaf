import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { OrcaError } from '../../src/errors.js';
import { expandLayer } from '../../src/layer/expand.js';
import { encodeHeader } from '../../src/tar/header.js';
import { archive, gnuSparse, member, pax } from '../tar/archive.js';
import { chunksOf, readLayer, withDirectory } from './layers.js';

/** Few names, so that entries meet: replace, link to, lie in and delete each other. */
const component = fc.constantFrom('a', 'b', 'c', '.', '.wh.a', '.wh.b', '.wh..wh..opq', '.wh..wh.x', '..');
const path = fc.array(component, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));
const tarMember = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .tuple(path, fc.string({ maxLength: 9 }))
      .map(([name, data]) => member({ name }, Buffer.from(data))),
  },
  { weight: 3, arbitrary: path.map((name) => member({ name: `${name}/`, type: '5' })) },
  {
    weight: 4,
    arbitrary: fc.tuple(path, path).map(([name, linkname]) => member({ name, linkname, type: '1' })),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(path, path, fc.boolean())
      .map(([name, target, absolute]) =>
        member({ name, linkname: absolute ? `/${target}` : target, type: '2' }),
      ),
  },
  { weight: 1, arbitrary: path.map((name) => member({ name, type: '3', major: 0, minor: 0 })) },
  {
    weight: 1,
    arbitrary: fc.tuple(path, fc.nat(9_000_000)).map(([name, at]) => gnuSparse(name, at + 5, [[at, 'end']])),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(path, fc.uint8Array({ maxLength: 20 }))
      .map(([name, value]) => Buffer.concat([pax([['SCHILY.xattr.user.x', value]]), encodeHeader({ name })])),
  },
);

test('any sequence of entries gives a layer that can be read, the same each time, or an error and no file', async (t) => {
  await withDirectory(async (directory) => {
    let count = 0;
    let layers = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(tarMember, { maxLength: 25 }), async (members) => {
        const tar = archive(...members);
        const outputs = [join(directory, `${count++}.vhd`), join(directory, `${count++}.vhd`)];
        const results = await Promise.all(
          outputs.map((output, i) => outcome(tar, output, i === 0 ? tar.length : 333)),
        );
        t.deepEqual(results[0], results[1]);
        if (typeof results[0] === 'string') t.false(outputs.some(existsSync));
        else layers++;
      }),
      { numRuns: 400 },
    );
    t.true(layers > 20);
  });
});

async function outcome(tar: Buffer, output: string, chunkSize: number): Promise<unknown> {
  try {
    await expandLayer(chunksOf(tar, chunkSize), { output });
  } catch (error) {
    if (!(error instanceof OrcaError)) throw error;
    return `${error.code} ${error.message}`;
  }
  return readLayer(output).vhd;
}
