import { randomBytes } from 'node:crypto';
import test from 'ava';
import { SignedLinks } from '../../src/registry/signed-link.js';

const links = new SignedLinks(randomBytes(32));
const PATH = 'layers/sha256/00.vhd';

function signature(query: string): { expires: string; signature: string } {
  const { expires = '', signature = '' } = Object.fromEntries(new URLSearchParams(query));
  return { expires, signature };
}

test('a link is good for its file, of its repository', (t) => {
  const signed = signature(links.sign('team/app', PATH));
  t.true(links.verify('team/app', PATH, signed));
  t.false(links.verify('team/other', PATH, signed));
  t.false(links.verify('team/app', 'layers/sha256/01.vhd', signed));
  t.false(links.verify('team', `app/${PATH}`, signed));
});

test('a link expires, and its time cannot be changed', (t) => {
  t.false(links.verify('app', PATH, signature(links.sign('app', PATH, -1))));
  const { expires, signature: mac } = signature(links.sign('app', PATH));
  t.false(links.verify('app', PATH, { expires: `${Number(expires) + 1}`, signature: mac }));
  t.false(links.verify('app', PATH, { expires: `0${expires}`, signature: mac }));
  t.false(links.verify('app', PATH, { expires: '', signature: mac }));
});

test('a signature has one spelling', (t) => {
  const { expires, signature: mac } = signature(links.sign('app', PATH));
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const last = alphabet.indexOf(mac.at(-1)!);
  const spellings = [...alphabet].filter((one) =>
    links.verify('app', PATH, { expires, signature: mac.slice(0, -1) + one }),
  );
  t.deepEqual(spellings, [alphabet[last]]);
  for (const forged of ['', mac.slice(1), `${mac}=`, `${mac}A`, 'A'.repeat(43)])
    t.false(links.verify('app', PATH, { expires, signature: forged }));
});

test('another key makes and accepts other links', (t) => {
  t.false(new SignedLinks(randomBytes(32)).verify('app', PATH, signature(links.sign('app', PATH))));
});
