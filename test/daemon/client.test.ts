import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { DaemonClient } from '../../src/daemon/client.js';

test('a mount may take longer than Node’s agent lets a connection be silent', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'orca-client-'));
  const server = createServer((_request, response) => {
    setTimeout(() => response.end('{"mount":{"id":"late"}}\n'), 6000);
  });
  t.teardown(async () => {
    server.close();
    await rm(directory, { recursive: true, force: true });
  });
  const socket = join(directory, 'socket');
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  const mount = await new DaemonClient(socket).createMount('late', { image: 'a', mountpoint: '/m' });
  t.is(mount.id, 'late');
});
