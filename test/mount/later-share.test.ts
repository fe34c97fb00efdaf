import test from 'ava';
import { LaterShare } from '../../src/mount/later-share.js';
import type { RegistryImage } from '../../src/source/registry-image.js';
import type { Source, SourceError } from '../../src/source/source.js';

function source(kind: string, log: string[]): Source {
  return {
    kind,
    location: kind,
    readFile: async () => Buffer.from(kind),
    openLayer: async (diffID: string) => ({ size: diffID.length }),
    close: async () => void log.push(`${kind} closed`),
  } as unknown as Source;
}

function answer(state: string, sources: Source[] = []): RegistryImage {
  return { state, sources } as unknown as RegistryImage;
}

test('until the registry is done it is not there, and then it is the share', async (t) => {
  const log: string[] = [];
  let now = answer('expanding');
  let questions = 0;
  const ask = async () => {
    questions += 1;
    return now;
  };
  const share = new LaterShare({ domain: 'registry.example', kind: 'smb', ask });
  t.is(share.kind, 'smb');
  const opening = () => share.openLayer('sha256:x');
  const error = await t.throwsAsync<SourceError>(opening());
  t.like(error, { code: 'UNREACHABLE', retryable: true });
  t.regex(error?.message ?? '', /registry\.example is still expanding the image/);
  // Not with every read.
  await t.throwsAsync(opening());
  t.is(questions, 1);
  now = answer('ready', [source('smb', log), source('blob', log)]);
  const again = new LaterShare({ domain: 'registry.example', kind: 'smb', ask });
  const handles = await Promise.all([again.openLayer('sha256:x'), again.openLayer('sha256:xy')]);
  t.deepEqual(
    handles.map(({ size }) => size),
    [8, 9],
  );
  t.is(questions, 2);
  t.deepEqual(log, ['blob closed']);
  t.is((await again.readFile('x', 10)).toString(), 'smb');
  await again.close();
  t.deepEqual(log, ['blob closed', 'smb closed']);
  t.like(await t.throwsAsync<SourceError>(again.openLayer('sha256:x')), { code: 'CLOSED' });
});

test('a registry that has given up, or offers blobs alone, has no share', async (t) => {
  for (const [now, code] of [
    [answer('no-artifact'), 'UNREACHABLE'],
    [answer('ready', [source('blob', [])]), 'NOT_FOUND'],
  ] as const) {
    const share = new LaterShare({ domain: 'registry.example', kind: 'smb', ask: async () => now });
    t.is((await t.throwsAsync<SourceError>(share.openLayer('sha256:x')))?.code, code);
    await share.close();
  }
});
