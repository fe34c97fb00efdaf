import test from 'ava';
import {
  canonicalName,
  familiarReference,
  formatReference,
  isRepositoryPath,
  isTag,
  parseReference,
  pinnedReference,
  repositoryName,
  withDefaultTag,
} from '../../src/oci/reference.js';

const DIGEST = `sha256:${'a'.repeat(64)}`;

const good: [text: string, full: string, familiar: string][] = [
  ['python', 'docker.io/library/python', 'python'],
  ['python:3.12', 'docker.io/library/python:3.12', 'python:3.12'],
  ['user/app', 'docker.io/user/app', 'user/app'],
  ['docker.io/python', 'docker.io/library/python', 'python'],
  ['index.docker.io/user/app', 'docker.io/user/app', 'user/app'],
  ['localhost/app', 'localhost/app', 'localhost/app'],
  ['localhost:5000/app:1', 'localhost:5000/app:1', 'localhost:5000/app:1'],
  ['127.0.0.1:5000/a/b/c', '127.0.0.1:5000/a/b/c', '127.0.0.1:5000/a/b/c'],
  ['[::1]:5000/app', '[::1]:5000/app', '[::1]:5000/app'],
  ['ghcr.io/User-Domain/app'.toLowerCase(), 'ghcr.io/user-domain/app', 'ghcr.io/user-domain/app'],
  ['Registry/app', 'Registry/app', 'Registry/app'],
  ['example.com/a_b/c__d/e---f', 'example.com/a_b/c__d/e---f', 'example.com/a_b/c__d/e---f'],
  [`app@${DIGEST}`, `docker.io/library/app@${DIGEST}`, `app@${DIGEST}`],
  [`app:1@${DIGEST}`, `docker.io/library/app:1@${DIGEST}`, `app:1@${DIGEST}`],
  ['app:5000', 'docker.io/library/app:5000', 'app:5000'],
  ['docker.io/library/a/b', 'docker.io/library/a/b', 'library/a/b'],
];
for (const [text, full, familiar] of good) {
  test(`${text} means ${full}`, (t) => {
    const reference = parseReference(text);
    t.is(formatReference(reference), full);
    t.is(familiarReference(reference), familiar);
    t.deepEqual(parseReference(full), reference);
  });
}

const bad: [text: string, why: RegExp][] = [
  ['', /empty/],
  ['Python', /lower case/],
  ['app:', /tag/],
  ['app:.x', /tag/],
  [`app:${'a'.repeat(129)}`, /tag/],
  ['app@sha256:abc', /digest/],
  ['app@', /digest/],
  ['a/', /repository name/],
  ['/a', /repository name|host name/],
  ['a//b', /repository name/],
  ['a/../b', /repository name/],
  ['a..b', /repository name/],
  ['a___b', /repository name/],
  ['-a', /repository name/],
  ['a b', /repository name/],
  ['exa_mple.com/a', /host name/],
  ['example.com:port/a', /host name/],
  ['a'.repeat(64), /image ids/],
  [`example.com/${'a'.repeat(256)}`, /longer than 255/],
  ['a'.repeat(1025), /longer than 1024/],
  ['app\u0000', /repository name/],
];
for (const [text, why] of bad) {
  test(`${JSON.stringify(text.slice(0, 40))} is refused: ${why.source}`, (t) => {
    t.throws(() => parseReference(text), { code: 'INVALID_REFERENCE', message: why });
  });
}

test('the default tag is added to a bare name only', (t) => {
  t.is(withDefaultTag(parseReference('a')).tag, 'latest');
  t.is(withDefaultTag(parseReference('a:1')).tag, '1');
  t.is(withDefaultTag(parseReference(`a@${DIGEST}`)).tag, undefined);
});

test('a store knows one name for all spellings', (t) => {
  for (const name of [
    'python',
    'python:latest',
    'docker.io/python',
    'index.docker.io/library/python:latest',
  ]) {
    t.is(canonicalName(name), 'python:latest');
  }
  t.throws(() => canonicalName(`python@${DIGEST}`), { code: 'INVALID_REFERENCE' });
});

test('repository paths and tags are judged on their own', (t) => {
  t.true(isRepositoryPath('library/python'));
  t.false(isRepositoryPath('library/../python'));
  t.true(isTag('_1.0-rc'));
  t.false(isTag('-1'));
});

test('a pinned reference has the digest that is given, whichever it had', (t) => {
  const [one, other] = [`sha256:${'1'.repeat(64)}`, `sha256:${'2'.repeat(64)}`];
  t.is(pinnedReference('python', one), `python@${one}`);
  t.is(pinnedReference('reg.example:5000/a/b:3', one), `reg.example:5000/a/b:3@${one}`);
  t.is(pinnedReference(`a/b@${other}`, one), `a/b@${one}`);
});

test('versions of an image have the name of the repository in common', (t) => {
  for (const [text, name] of [
    ['python', 'docker.io/library/python'],
    ['python:3.11', 'docker.io/library/python'],
    [`docker.io/library/python@sha256:${'a'.repeat(64)}`, 'docker.io/library/python'],
    ['127.0.0.1:5000/team/app:v1', '127.0.0.1:5000/team/app'],
    [`sha256:${'a'.repeat(64)}`, undefined],
    ['Not An Image', undefined],
    ['', undefined],
  ] as const)
    t.is(repositoryName(text), name, text);
});
