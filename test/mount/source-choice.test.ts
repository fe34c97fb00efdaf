import test from 'ava';
import { choiceOf, servedBy, surprises } from '../../src/mount/source-choice.js';
import type { MountDescription, Transport, TransportKind } from '../../src/source/mount-description.js';
import type { Source } from '../../src/source/source.js';

const DESCRIPTOR = { mediaType: 'm', digest: `sha256:${'0'.repeat(64)}`, size: 1 };

function found(used: TransportKind[], offered: TransportKind[], more: Partial<MountDescription> = {}) {
  const sources = used.map((kind) => ({ kind, location: `${kind}://x` })) as unknown as Source[];
  const description: MountDescription = {
    manifest: DESCRIPTOR,
    artifact: DESCRIPTOR,
    region: undefined,
    reason: undefined,
    layers: [],
    ...more,
    transports: offered.map((kind) => ({ kind }) as Transport),
  };
  return { sources, description, passedOver: [] };
}

function sentence(...[image, wishes]: Parameters<typeof choiceOf>): string {
  const { because, passedOver } = choiceOf(image, wishes);
  return servedBy(image.sources, because, passedOver);
}

test('the best transport needs no excuse', (t) => {
  t.is(
    sentence(found(['smb', 'https'], ['smb', 'https', 'blob']), {}),
    'served by smb://x (smb, because it is the best that the registry offers)',
  );
});

test('each better transport that does not serve has its reason', (t) => {
  const offer = 'because the registry offers it';
  t.is(
    sentence(found(['https'], ['https']), { transports: ['https', 'blob'] }),
    `served by https://x (https, ${offer}; not by smb, because --transports leaves it out)`,
  );
  t.is(
    sentence(found(['https'], ['https'], { region: 'west' }), { region: 'east' }),
    `served by https://x (https, ${offer}; not by smb, because the registry is in region west and this host in east)`,
  );
  t.is(
    sentence(found(['https'], ['https'], { reason: 'no share here' }), {}),
    `served by https://x (https, ${offer}; not by smb, because no share here)`,
  );
  t.is(
    sentence(found(['https'], ['https']), {}),
    `served by https://x (https, ${offer}; not by smb, because the registry does not offer it)`,
  );
  const image = {
    ...found(['blob'], ['smb', 'blob']),
    passedOver: [{ kind: 'smb' as const, reason: 'bad URL' }],
  };
  t.is(
    sentence(image, {}),
    `served by blob://x (blob, ${offer}; not by smb, because bad URL; not by https, because the registry does not offer it)`,
  );
});

test('what was remembered says when', (t) => {
  t.regex(
    sentence({ ...found(['smb'], ['smb']), rememberedFrom: 0 }, {}),
    /the best that the registry offers on 1970-01-01T00:00:00.000Z\)$/,
  );
});

test('only what nobody set up so is a surprise', (t) => {
  const kinds = (...[image, wishes]: Parameters<typeof choiceOf>) =>
    surprises(choiceOf(image, wishes).passedOver).map(({ kind }) => kind);
  t.deepEqual(kinds(found(['https'], ['https']), {}), []);
  t.deepEqual(kinds(found(['https'], ['smb', 'https']), { transports: ['https'] }), []);
  t.deepEqual(kinds(found(['https'], ['https'], { region: 'west' }), { region: 'east' }), ['smb']);
  t.deepEqual(kinds(found(['https'], ['https'], { reason: 'no share here' }), {}), ['smb']);
  const unusable = {
    ...found(['https'], ['smb', 'https']),
    passedOver: [{ kind: 'smb' as const, reason: 'x' }],
  };
  t.deepEqual(kinds(unusable, {}), ['smb']);
});
