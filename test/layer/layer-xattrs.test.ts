import test from 'ava';
import { layerXattrs } from '../../src/layer/layer-xattrs.js';

const VALUE = Buffer.from([0, 255]);

test('the namespaces of the kernel stay, those of overlayfs, Orca and others go with a warning', (t) => {
  const kept = [
    'user.a',
    'trusted.a',
    'trusted.overlayfs',
    'security.capability',
    'system.posix_acl_access',
    'system.posix_acl_default',
  ];
  const dropped = [
    'trusted.overlay.opaque',
    'trusted.overlay.redirect',
    'trusted.orca.hardlink',
    'system.nfs4_acl',
    'com.apple.quarantine',
    'lustre.lov',
    'user',
  ];
  const warnings: string[] = [];
  const xattrs = layerXattrs(
    new Map([...kept, ...dropped].map((name) => [name, VALUE])),
    'a/file',
    (message) => warnings.push(message),
  );
  t.deepEqual([...xattrs.keys()], kept);
  t.is(warnings.length, dropped.length);
  t.is(warnings[0], 'layer: the xattr "trusted.overlay.opaque" of "a/file" is dropped');
});

test('what an inode cannot hold is refused, by the name of the entry', (t) => {
  const ignore = (): void => {};
  const big = new Map([['user.a', new Uint8Array(65536)]]);
  t.throws(() => layerXattrs(big, 'a/file', ignore), { code: 'INVALID_ENTRY', message: /"a\/file"/ });
  const many = new Map(Array.from({ length: 5 }, (_, i) => [`user.${i}`, new Uint8Array(60_000)]));
  t.throws(() => layerXattrs(many, 'a/file', ignore), { code: 'INVALID_ENTRY' });
  t.throws(() => layerXattrs(new Map([[`user.${'n'.repeat(256)}`, VALUE]]), 'a', ignore), {
    code: 'INVALID_ENTRY',
  });
});
