import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { SnapshotError } from '../../src/snapshotter/snapshot-error.js';
import { SnapshotStore } from '../../src/snapshotter/snapshot-store.js';

async function temporaryRoot(t: ExecutionContext): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'orca-snapshots-'));
  t.teardown(() => rm(root, { recursive: true, force: true }));
  return root;
}

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const nothing = async () => {};
const active = (name: string, parent = '') => ({ kind: 'active' as const, name, parent, labels: {} });
const usage = { size: 4096, inodes: 1 };

async function code(t: ExecutionContext, promise: Promise<unknown>): Promise<string | undefined> {
  return (await t.throwsAsync<SnapshotError>(promise))?.code;
}

test('what was stored is there after a restart', async (t) => {
  const root = await temporaryRoot(t);
  const store = await SnapshotStore.open(root, quiet);
  await store.create({ ...active('a'), labels: { one: '1' } }, nothing);
  await store.commit('a', 'c', { two: '2' }, usage);
  const remote = { reference: 'registry/x:1', manifestDigest: `sha256:${'0'.repeat(64)}`, layers: 2 };
  await store.create({ kind: 'committed', name: 'r', parent: 'c', labels: {}, remote }, nothing);
  await store.create(active('b', 'r'), nothing);
  await store.update({ name: 'b', labels: { x: 'y', z: '' } }, []);
  const before = [...store.all()].sort((a, b) => a.id - b.id);

  const again = await SnapshotStore.open(root, quiet);
  t.deepEqual(
    [...again.all()].sort((a, b) => a.id - b.id),
    before,
  );
  t.deepEqual(again.get('b').labels, { x: 'y' });
  t.deepEqual(
    again.ancestors(again.get('b')).map(({ name }) => name),
    ['r', 'c'],
  );
  t.is(await code(t, again.remove('c')), 'FAILED_PRECONDITION');
});

test('names are unique, parents committed, and only active snapshots are committed', async (t) => {
  const store = await SnapshotStore.open(await temporaryRoot(t), quiet);
  await store.create(active('a'), nothing);
  t.is(await code(t, store.create(active('a'), nothing)), 'ALREADY_EXISTS');
  t.is(await code(t, store.create(active('b', 'a'), nothing)), 'INVALID_ARGUMENT');
  t.is(await code(t, store.create(active('b', 'missing'), nothing)), 'NOT_FOUND');
  t.is(await code(t, store.create(active(''), nothing)), 'INVALID_ARGUMENT');
  t.is(
    await code(t, store.create({ ...active('b'), labels: { k: 'v'.repeat(5000) } }, nothing)),
    'INVALID_ARGUMENT',
  );
  t.is(await code(t, store.commit('missing', 'c', {}, usage)), 'NOT_FOUND');
  await store.create({ ...active('v'), kind: 'view' }, nothing);
  t.is(await code(t, store.commit('v', 'c', {}, usage)), 'FAILED_PRECONDITION');
  await store.commit('a', 'c', {}, usage);
  t.is(await code(t, store.commit('c', 'd', {}, usage)), 'FAILED_PRECONDITION');
  t.is(await code(t, store.update({ name: 'c', labels: {} }, ['parent'])), 'INVALID_ARGUMENT');
});

test('a snapshot that is committed with a parent gets it, unless it has one', async (t) => {
  const store = await SnapshotStore.open(await temporaryRoot(t), quiet);
  for (const name of ['p', 'q', 'x']) await store.create(active(`${name}-key`), nothing);
  await store.commit('p-key', 'p', {}, usage);
  await store.commit('x-key', 'x', {}, usage, 'p');
  t.is(store.get('x').parent, 'p');
  t.is(await code(t, store.remove('p')), 'FAILED_PRECONDITION');
  t.is(await code(t, store.commit('q-key', 'q', {}, usage, 'missing')), 'NOT_FOUND');
  await store.create(active('y', 'x'), nothing);
  t.is(await code(t, store.commit('y', 'z', {}, usage, 'p')), 'INVALID_ARGUMENT');
});

test('labels are refused that a restart could not read', async (t) => {
  const root = await temporaryRoot(t);
  const store = await SnapshotStore.open(root, quiet);
  const entries = Array.from({ length: 300 }, (_, index) => [`label-${index}`, 'v'.repeat(4000)]);
  const labels = Object.fromEntries(entries) as Record<string, string>;
  await store.create(active('a'), nothing);
  t.is(await code(t, store.create({ ...active('b'), labels }, nothing)), 'INVALID_ARGUMENT');
  t.is(await code(t, store.update({ name: 'a', labels }, [])), 'INVALID_ARGUMENT');
  t.is(await code(t, store.commit('a', 'c', labels, usage)), 'INVALID_ARGUMENT');
  t.deepEqual([...(await SnapshotStore.open(root, quiet)).all()], [...store.all()]);
});

test('a label of any name is removed', async (t) => {
  const store = await SnapshotStore.open(await temporaryRoot(t), quiet);
  await store.create({ ...active('a'), labels: { constructor: 'x', other: 'y' } }, nothing);
  const { labels } = await store.update({ name: 'a', labels: {} }, ['labels.constructor', 'labels.toString']);
  t.deepEqual(labels, { other: 'y' });
});

test('of two who ask for one name at once, one gets it', async (t) => {
  const store = await SnapshotStore.open(await temporaryRoot(t), quiet);
  const results = await Promise.allSettled([1, 2, 3, 4].map(() => store.create(active('a'), nothing)));
  t.is(results.filter(({ status }) => status === 'fulfilled').length, 1);
});

test('a snapshot that cannot be filled leaves nothing', async (t) => {
  const root = await temporaryRoot(t);
  const store = await SnapshotStore.open(root, quiet);
  await t.throwsAsync(store.create(active('a'), () => Promise.reject(new Error('no'))));
  t.false(store.has('a'));
  t.deepEqual(readdirSync(join(root, 'snapshots')), []);
});

test('what a killed process left is removed, and a damaged record set aside', async (t) => {
  const root = await temporaryRoot(t);
  const store = await SnapshotStore.open(root, quiet);
  await store.create(active('a'), nothing);
  const snapshots = join(root, 'snapshots');
  for (const name of ['new-abc', 'removed-7-1']) mkdirSync(join(snapshots, name, 'fs'), { recursive: true });
  mkdirSync(join(snapshots, '9'));
  writeFileSync(join(snapshots, '9', 'snapshot.json'), '{"version":1,"id":9');

  const again = await SnapshotStore.open(root, quiet);
  t.deepEqual(readdirSync(snapshots), ['1']);
  t.true(readdirSync(root).some((name) => name.startsWith('unreadable-9-')));
  t.is((await again.create(active('b'), nothing)).id, 10);
});

test('a removed snapshot is gone with its files', async (t) => {
  const root = await temporaryRoot(t);
  const store = await SnapshotStore.open(root, quiet);
  const snapshot = await store.create(active('a'), async (path) => mkdirSync(join(path, 'fs')));
  t.true(existsSync(join(store.directoryOf(snapshot), 'fs')));
  await store.remove('a');
  t.deepEqual(readdirSync(join(root, 'snapshots')), []);
  t.is(await code(t, store.remove('a')), 'NOT_FOUND');
});
