/** Sources that a registry describes, and describes anew. */
import test from 'ava';
import type { SmbTransport } from '../../src/source/mount-description.js';
import { type Source, SourceError } from '../../src/source/source.js';
import { TransportSource } from '../../src/source/transport-source.js';

const transport = (url: string): SmbTransport => ({
  kind: 'smb',
  url,
  credentials: { username: 'user', domain: '', password: 'password' } as SmbTransport['credentials'],
});

test('memory goes back to whoever lent it, also when its credentials were renewed meanwhile', async (t) => {
  const returned = new Map<string, Uint8Array[]>();
  let refusing = false;
  const lender = (name: string): Source => ({
    kind: 'smb',
    location: name,
    readFile: async () => new Uint8Array(),
    openLayer: async () => ({
      size: 10,
      read: async (_, length) => {
        if (refusing && name === 'first') throw new SourceError('ACCESS_DENIED', name);
        return new Uint8Array(length);
      },
      giveBack: (bytes) => void returned.set(name, [...(returned.get(name) ?? []), bytes]),
      close: async () => undefined,
    }),
    close: async () => undefined,
  });
  const [first, second] = [transport('smb://first/'), transport('smb://second/')];
  const source = new TransportSource<SmbTransport>({
    kind: 'smb',
    location: 'test',
    describe: async (refused) => (refused === undefined ? first : second),
    open: async ({ url }) => lender(new URL(url).hostname),
  });
  const layer = await source.openLayer('sha256:00');
  const early = await layer.read(0, 5);
  refusing = true;
  const late = await layer.read(5, 5);
  layer.giveBack?.(early);
  layer.giveBack?.(late);
  layer.giveBack?.(new Uint8Array(5));
  t.is(returned.get('first')?.length, 1);
  t.is(returned.get('first')?.[0], early);
  t.is(returned.get('second')?.length, 1);
  t.is(returned.get('second')?.[0], late);
  await source.close();
});
