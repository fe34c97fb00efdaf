import { existsSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test from 'ava';
import { digestOf } from '../../src/oci/digest.js';
import { collectGarbage } from '../../src/registry/garbage.js';
import { RegistryStorage } from '../../src/registry/storage.js';
import { TestRegistry } from './server-fixture.js';

const inFuture = -60_000;

test('what no manifest names goes, from the repository and from the disk', async (t) => {
  const registry = await TestRegistry.start();
  try {
    const { storage } = registry.registry.context;
    const kept = await registry.pushImage('a', 'v1', 'kept layer');
    const dropped = await registry.pushImage('a', 'v2', 'dropped layer');
    await registry.pushImage('b', 'v1', 'layer of b');
    const layer = digestOf(Buffer.from('dropped layer'));
    await registry.send('POST', `/v2/b/blobs/uploads/?mount=${layer}&from=a`);
    await registry.send('DELETE', `/v2/a/manifests/${dropped.digest}`);

    // While it is young, a blob may belong to a push whose manifest is still to come.
    t.deepEqual(await collectGarbage(storage, 60_000), {
      unlinked: 0,
      removed: 1,
      bytes: dropped.bytes.length,
    });
    t.true(existsSync(storage.blobs.path(layer)));
    t.deepEqual(await collectGarbage(storage, inFuture), {
      unlinked: 2,
      removed: 1,
      bytes: 'dropped layer'.length,
    });
    t.false(existsSync(storage.blobs.path(layer)));
    t.is(await storage.repository('b').blobSize(layer), undefined);

    t.deepEqual(await collectGarbage(storage, inFuture), { unlinked: 0, removed: 0, bytes: 0 });
    const answer = await registry.send('GET', `/v2/a/blobs/${digestOf(Buffer.from('kept layer'))}`);
    t.is(answer.body.toString(), 'kept layer');
    t.deepEqual((await registry.send('GET', '/v2/a/manifests/v1')).body, kept.bytes);
  } finally {
    await registry.stop();
  }
});

test('a client that asks whether a blob is there keeps it from the collection', async (t) => {
  const registry = await TestRegistry.start();
  try {
    const { storage } = registry.registry.context;
    const digest = await registry.pushBlob('a', Buffer.from('x'));
    const path = join(registry.data, 'repositories/a/_blobs', digest.replace(':', '/'));
    utimesSync(path, 1, 1);
    t.is((await registry.send('HEAD', `/v2/a/blobs/${digest}`)).status, 200);
    t.is((await collectGarbage(storage, 60_000)).unlinked, 0);
    utimesSync(path, 1, 1);
    t.is((await collectGarbage(storage, 60_000)).unlinked, 1);
  } finally {
    await registry.stop();
  }
});

test('a blob that was stored when the process died before it was linked is removed', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'orca-garbage-'));
  const storage = await RegistryStorage.open(dir);
  try {
    const path = storage.blobs.path(digestOf(Buffer.from('orphan')));
    await mkdir(dirname(path), { recursive: true });
    writeFileSync(path, 'orphan');
    t.deepEqual(await collectGarbage(storage, 0), { unlinked: 0, removed: 1, bytes: 6 });
    t.deepEqual(readdirSync(dirname(path)), []);
  } finally {
    storage.close();
    rmSync(dir, { recursive: true });
  }
});

test('pushes and collections at the same time lose nothing', async (t) => {
  const registry = await TestRegistry.start();
  try {
    const { storage } = registry.registry.context;
    let pushing = true;
    const collecting = (async () => {
      while (pushing) await collectGarbage(storage, 60_000);
    })();
    await Promise.all(
      ['a', 'b', 'c'].map(async (name) => {
        for (let i = 0; i < 5; i++) {
          const { digest } = await registry.pushImage(name, `v${i}`, `the same in all ${i}`);
          if (i % 2 === 0) await registry.send('DELETE', `/v2/${name}/manifests/${digest}`);
        }
      }),
    );
    pushing = false;
    await collecting;
    for (const name of ['a', 'b', 'c']) {
      for (const i of [1, 3]) {
        t.is((await registry.send('GET', `/v2/${name}/manifests/v${i}`)).status, 200);
        const layer = digestOf(Buffer.from(`the same in all ${i}`));
        t.is(
          (await registry.send('GET', `/v2/${name}/blobs/${layer}`)).body.toString(),
          `the same in all ${i}`,
        );
      }
    }
  } finally {
    await registry.stop();
  }
});
