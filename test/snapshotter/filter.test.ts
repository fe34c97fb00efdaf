import test from 'ava';
import fc from 'fast-check';
import { parseFilters } from '../../src/snapshotter/filter.js';
import { SnapshotError } from '../../src/snapshotter/snapshot-error.js';

const fields: Record<string, string> = {
  name: 'p',
  parent: '',
  kind: 'active',
  'labels|a.b/c': 'x y',
  'labels|l': '2',
};
const fieldOf = (path: readonly string[]) => fields[path.join('|')];
const matches = (...filters: string[]) => parseFilters(filters)(fieldOf);

test('selectors of one filter must all hold, of several filters one', (t) => {
  t.true(matches());
  t.true(matches(''));
  t.true(matches('name==p'));
  t.false(matches('name==q'));
  t.true(matches('name==q', 'name==p'));
  t.true(matches('name==p,kind==active'));
  t.false(matches('name==p,kind==view'));
});

test('a field alone must be there, and what is not there equals nothing', (t) => {
  t.true(matches('labels.l'));
  t.false(matches('labels.m'));
  t.true(matches('parent'));
  t.true(matches('parent==""'));
  t.false(matches('parent!=""'));
  t.false(matches('labels.m==""'));
  t.false(matches('labels.m!=""'));
  t.true(matches('labels.m!=2'));
  t.true(matches('labels.m~="^$"'));
});

test('names and values can be quoted', (t) => {
  t.true(matches('labels."a.b/c"=="x y"'));
  t.true(matches('labels."a.b/c"~="^x"'));
  t.true(matches('labels."a.b/c"~=/x.y/'));
  t.true(matches('name~=|^p$|,kind!=view'));
});

test('quoted values have the escapes of Go', (t) => {
  const named = (text: string, name: string) => parseFilters([`name==${text}`])(() => name);
  t.true(named('"\\x00\\a\\b\\f\\n\\r\\t\\v"', '\0\x07\b\f\n\r\t\v'));
  t.true(named('"\\u00e9\\U0001f40b\\"\\\\"', 'é\u{1f40b}"\\'));
  for (const text of ['"\\q"', '"\\x8f"', '"\\u12"', '"\\U00110000"']) {
    t.throws(() => parseFilters([`name==${text}`]), { instanceOf: SnapshotError }, text);
  }
});

test('what is no filter is INVALID_ARGUMENT', (t) => {
  for (const text of ['==', 'name==', 'name=p', 'name==p,', 'name==p x', '"open', 'a..b', 'name~="("', ',']) {
    const error = t.throws(() => parseFilters([text]), { instanceOf: SnapshotError }, text);
    t.is(error?.code, 'INVALID_ARGUMENT');
  }
  t.throws(() => parseFilters(['x'.repeat(20_000)]), { instanceOf: SnapshotError });
});

test('no text does anything but match, not match or be refused', (t) => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(...'ab.=!~,"\\/| ') }), (text) => {
      try {
        parseFilters([text])(fieldOf);
      } catch (error) {
        if (!(error instanceof SnapshotError)) throw error;
      }
    }),
    { numRuns: 2000 },
  );
  t.pass();
});
