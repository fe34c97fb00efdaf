import test from 'ava';
import { digestOf, isDigest, parseDigest, verifyBytes, verifyStream } from '../../src/oci/digest.js';

const content = Buffer.from('hello, layer');
const expected = { digest: digestOf(content), size: content.length };

async function* pieces(bytes: Uint8Array, step: number) {
  for (let i = 0; i < bytes.length; i += step) yield bytes.subarray(i, i + step);
}

async function collect(stream: AsyncIterable<Uint8Array>) {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

test('sha256 and sha512 digests are split', (t) => {
  t.deepEqual(parseDigest(`sha256:${'0a'.repeat(32)}`), { algorithm: 'sha256', hex: '0a'.repeat(32) });
  t.deepEqual(parseDigest(`sha512:${'0a'.repeat(64)}`), { algorithm: 'sha512', hex: '0a'.repeat(64) });
  t.true(isDigest(digestOf(content, 'sha512')));
});

test('anything else is refused with a reason', (t) => {
  const bad: [string, string][] = [
    ['', 'INVALID_DIGEST'],
    ['sha256', 'INVALID_DIGEST'],
    ['sha256:', 'INVALID_DIGEST'],
    [`sha256:${'a'.repeat(63)}`, 'INVALID_DIGEST'],
    [`sha256:${'A'.repeat(64)}`, 'INVALID_DIGEST'],
    [`sha512:${'a'.repeat(64)}`, 'INVALID_DIGEST'],
    [`sha256:${'a'.repeat(64)}\n`, 'INVALID_DIGEST'],
    [`sha256:../${'a'.repeat(61)}`, 'INVALID_DIGEST'],
    [`md5:${'a'.repeat(32)}`, 'UNSUPPORTED'],
    [`sha256:${'a'.repeat(1000)}`, 'INVALID_DIGEST'],
  ];
  for (const [text, code] of bad) {
    t.throws(() => parseDigest(text, 'config'), { code, message: /^config: / }, text);
    t.false(isDigest(text));
  }
});

test('a stream is passed on and verified whatever its pieces', async (t) => {
  for (let step = 1; step <= content.length; step++) {
    t.deepEqual(await collect(verifyStream(pieces(content, step), expected, 'blob')), content);
  }
});

test('a stream that is cut, too long or changed fails', async (t) => {
  const read = (bytes: Uint8Array) => collect(verifyStream(pieces(bytes, 5), expected, 'layer blob'));
  await t.throwsAsync(read(content.subarray(1)), {
    code: 'SIZE_MISMATCH',
    message: /^layer blob sha256:.*11 are there/,
  });
  await t.throwsAsync(read(Buffer.concat([content, content])), {
    code: 'SIZE_MISMATCH',
    message: /more are there/,
  });
  await t.throwsAsync(read(Buffer.from('hello, Layer')), { code: 'DIGEST_MISMATCH', message: /corrupt/ });
});

test('too long a stream is not read to its end', async (t) => {
  let given = 0;
  async function* endless() {
    for (;;) {
      given += 4;
      yield Buffer.alloc(4);
    }
  }
  await t.throwsAsync(collect(verifyStream(endless(), expected, 'blob')), { code: 'SIZE_MISMATCH' });
  t.is(given, 16);
});

test('bytes in memory are verified the same way', (t) => {
  t.notThrows(() => verifyBytes(content, expected, 'config'));
  t.throws(() => verifyBytes(content, { ...expected, size: 1 }, 'config'), { code: 'SIZE_MISMATCH' });
  t.throws(() => verifyBytes(Buffer.from('hello, Layer'), expected, 'config'), { code: 'DIGEST_MISMATCH' });
});
