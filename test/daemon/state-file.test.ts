import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { type MountRecord, StateFile } from '../../src/daemon/state-file.js';

const place = await mkdtemp(join(tmpdir(), 'orca-state-file-'));
test.after.always(() => rm(place, { recursive: true, force: true }));

const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
let count = 0;

async function newState(): Promise<{ directory: string; state: StateFile }> {
  const directory = join(place, String(count++));
  return { directory, state: await StateFile.open(directory, silent) };
}

function record(id: string, request: Partial<MountRecord['request']> = {}): MountRecord {
  const mountpoint = `/mnt/${id}`;
  return { id, mountpoint, request: { image: 'app:1', mountpoint, ...request }, createdAt: 1 };
}

test('the next daemon finds what is saved, with the secrets of the requests', async (t) => {
  const { directory, state } = await newState();
  const first = record('first', { environment: { ORCA_SMB_PASSWORD: 'secret' } });
  const second = record('second', { store: 'smb://user:hidden@share/images' });
  state.mounts.set('first', first).set('second', second);
  await state.save();
  const next = await StateFile.open(directory, silent);
  t.deepEqual([...next.mounts.values()], [first, second]);
  t.notRegex(await readFile(join(directory, 'state.json'), 'utf8'), /secret|hidden/);
  for (const name of ['state.json', 'secrets.json'])
    t.is((await stat(join(directory, name))).mode & 0o777, 0o600, name);
});

test('of changes that are made at once each is in the file when its save has resolved', async (t) => {
  const { directory, state } = await newState();
  await Promise.all(
    Array.from({ length: 50 }, async (_, index) => {
      state.mounts.set(`m${index}`, record(`m${index}`));
      await state.save();
      const next = await StateFile.open(directory, silent);
      t.true(next.mounts.has(`m${index}`));
    }),
  );
});

test('secrets that did not change are not written again, and go with the last mount that has one', async (t) => {
  const { directory, state } = await newState();
  const secrets = join(directory, 'secrets.json');
  state.mounts.set('one', record('one', { environment: { ORCA_SMB_PASSWORD: 'secret' } }));
  await state.save();
  const before = await stat(secrets);
  state.mounts.set('two', record('two'));
  await state.save();
  t.is((await stat(secrets)).ino, before.ino);
  t.true((await StateFile.open(directory, silent)).mounts.has('two'));
  state.mounts.delete('one');
  await state.save();
  await t.throwsAsync(stat(secrets), { code: 'ENOENT' });
  state.mounts.set('one', record('one', { environment: { ORCA_SMB_PASSWORD: 'secret' } }));
  await state.save();
  t.deepEqual([...(await StateFile.open(directory, silent)).mounts.keys()], ['two', 'one']);
});

for (const [what, text] of [
  ['that was cut short', '{"version":1,"mounts":[{"id":"on'],
  ['that is empty', ''],
  ['of another version', '{"version":99,"mounts":[]}'],
  ['with an id that leaves the directory', '{"version":1,"mounts":[{"id":"../x","mountpoint":"/x"}]}'],
] as const) {
  test(`a file ${what} is put aside`, async (t) => {
    const { directory } = await newState();
    await writeFile(join(directory, 'state.json'), text);
    const state = await StateFile.open(directory, silent);
    t.is(state.mounts.size, 0);
    t.is(await readFile(join(directory, 'state.json.bad'), 'utf8'), text);
    state.mounts.set('one', record('one'));
    await state.save();
    t.is((await StateFile.open(directory, silent)).mounts.size, 1);
  });
}
