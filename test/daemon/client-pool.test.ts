import test from 'ava';
import { ClientPool } from '../../src/daemon/client-pool.js';
import { parseReference } from '../../src/oci/reference.js';
import { FakeRegistry } from '../oci/fake-registry.js';

test('mounts that follow each other ask a registry through one connection, and one that ends leaves the others theirs', async (t) => {
  const registry = await FakeRegistry.start();
  t.teardown(() => registry.stop());
  const { digest } = registry.addManifest(
    'application/vnd.oci.image.manifest.v1+json',
    Buffer.from(JSON.stringify({ schemaVersion: 2, config: {}, layers: [] })),
    '1',
  );
  const pool = new ClientPool();
  const reference = parseReference(`${registry.host}/app:1`);
  const [one, other, stranger] = [
    await pool.open({ env: {} }),
    await pool.open({ env: {} }),
    await pool.open({ env: { HOME: '/nowhere' } }),
  ];
  t.is(one.client, other.client);
  t.not(one.client, stranger.client, 'another environment may have other credentials');
  t.is((await one.client.repository(reference).resolve('1')).digest, digest);
  const pings = registry.seen('/v2/').filter(({ url }) => url === '/v2/').length;
  await one.close();
  await one.close();
  t.is((await other.client.repository(reference).resolve('1')).digest, digest);
  t.is(registry.seen('/v2/').filter(({ url }) => url === '/v2/').length, pings);
  await other.close();
  await stranger.close();
});
