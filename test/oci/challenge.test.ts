import test from 'ava';
import { parseChallenges } from '../../src/oci/challenge.js';

const parsed = (header: string | string[]) =>
  parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);

test('a bearer challenge has its parameters, quoted or not', (t) => {
  t.deepEqual(parsed('Bearer realm="https://auth/token",service=registry, scope="repository:a:pull,push"'), [
    ['bearer', { realm: 'https://auth/token', service: 'registry', scope: 'repository:a:pull,push' }],
  ]);
});

test('several challenges are told apart, in one line and in many', (t) => {
  const both = [
    ['basic', { realm: 'a, Bearer realm=x' }],
    ['bearer', { realm: 'b' }],
  ];
  t.deepEqual(parsed('Basic realm="a, Bearer realm=x", Bearer realm="b"'), both);
  t.deepEqual(parsed(['Basic realm="a, Bearer realm=x"', 'BEARER realm=b']), both);
});

test('quotes inside a value are unescaped, and the first of equal names counts', (t) => {
  t.deepEqual(parsed('Bearer realm="a\\"b\\\\c",realm="other",Realm=third'), [
    ['bearer', { realm: 'a"b\\c' }],
  ]);
});

test('what is malformed ends the list and throws nothing', (t) => {
  t.deepEqual(parseChallenges(undefined), []);
  t.deepEqual(parsed('realm="orphan"'), []);
  t.deepEqual(parsed('Bearer realm="never closed'), [['bearer', { realm: '' }]]);
  t.deepEqual(parsed('"'.repeat(100_000)), []);
  t.deepEqual(parsed(`Bearer ${'a=b,'.repeat(100_000)}`)[0], ['bearer', { a: 'b' }]);
});
