import test from 'ava';
import { isRepositoryUrl, redirectedUrl, routedUrl } from '../../src/registry/repository-url.js';

for (const [url, routed] of [
  ['/v2/', '/v2/'],
  ['/v2/_catalog?n=3', '/v2/_catalog?n=3'],
  ['/v2/a/tags/list', '/v2/a/tags/list'],
  ['/v2/a/b/tags/list?n=1', '/v2/a%2Fb/tags/list?n=1'],
  ['/v2/a/b/manifests/v1', '/v2/a%2Fb/manifests/v1'],
  ['/v2/a/b/blobs/sha256:00', '/v2/a%2Fb/blobs/sha256:00'],
  ['/v2/a/b/referrers/sha256:00?artifactType=x/y', '/v2/a%2Fb/referrers/sha256:00?artifactType=x/y'],
  ['/v2/a/b/blobs/uploads/?mount=x&from=c/d', '/v2/a%2Fb/blobs/uploads/?mount=x&from=c/d'],
  ['/v2/a/b/blobs/uploads/id', '/v2/a%2Fb/blobs/uploads/id'],
  ['/v2/a/manifests/b/manifests/c', '/v2/a%2Fmanifests%2Fb/manifests/c'],
  ['/v2/a/blobs/uploads/blobs/uploads/', '/v2/a%2Fblobs%2Fuploads/blobs/uploads/'],
  ['/v2/../../etc/manifests/x', '/v2/..%2F..%2Fetc/manifests/x'],
  ['/v2/a%2Fb/manifests/x', '/v2/a%252Fb/manifests/x'],
  ['/v2//manifests/x', '/v2//manifests/x'],
  ['/mount/v1/a/b/_manifests/v1?region=x', '/mount/v1/a%2Fb/_manifests/v1?region=x'],
  ['/mount/v1//a/b/_manifests/v1', '/mount/v1/a%2Fb/_manifests/v1'],
  ['/mount/v1/a/_manifests/b/_manifests/v1', '/mount/v1/a%2F_manifests%2Fb/_manifests/v1'],
  ['/acr/v1/_catalog?n=1', '/acr/v1/_catalog?n=1'],
  ['/acr/v1/a/b?x=y', '/acr/v1/a%2Fb?x=y'],
  ['/acr/v1/a%2Fb', '/acr/v1/a%2Fb'],
  ['/acr/v1/a%252Fb', '/acr/v1/a%25252Fb'],
  ['/acr/v1//a/b', '/acr/v1/a%2Fb'],
  ['/acr/v1/a/_tags', '/acr/v1/a/_tags'],
  ['/teleport/v1/a/b/orca.json', '/teleport/v1/a%2Fb/orca.json'],
  ['/teleport/v1/a/images/index.json?x', '/teleport/v1/a/images/index.json?x'],
  ['/teleport/v1/a/images/images/index.json', '/teleport/v1/a%2Fimages/images/index.json'],
  ['/teleport/v1/a/b/layers/sha256/x.vhd', '/teleport/v1/a%2Fb/layers/sha256/x.vhd'],
  ['/teleport/v1/a/../b/layers/sha256/x', '/teleport/v1/a%2F..%2Fb/layers/sha256/x'],
  ['/teleport/v1/a/layers/../x', '/teleport/v1/a/layers/../x'],
  ['/teleport/v1/a/locks/x', '/teleport/v1/a/locks/x'],
  ['/other/a/b/manifests/x', '/other/a/b/manifests/x'],
  ['/v2/a?/manifests/x', '/v2/a?/manifests/x'],
] as const) {
  test(`${url} is routed as ${routed}`, (t) => t.is(routedUrl(url), routed));
}

test('resources of a repository are told from others', (t) => {
  t.true(isRepositoryUrl('/v2/a/manifests/x?y=z'));
  t.true(isRepositoryUrl('/v2/a/b/blobs/uploads/'));
  t.false(isRepositoryUrl('/v2/'));
  t.false(isRepositoryUrl('/v2/_catalog'));
  t.false(isRepositoryUrl('/oauth2/token'));
});

test('a long path takes no long time', (t) => {
  t.is(routedUrl(`/v2/${'a/blobs/uploads/'.repeat(2000)}x/y`).length, '/v2/'.length + 16 * 2000 + 3);
});

test('a manifest of a name that begins with slashes is looked for without them', (t) => {
  t.is(redirectedUrl('/v2//a/manifests/x'), '/v2/a/manifests/x');
  t.is(redirectedUrl('/v2///a/b/manifests/x'), '/v2/a/b/manifests/x');
  for (const url of ['/v2/a/manifests/x', '/v2//manifests/x', '/v2//evil.example/', '//v2//a/manifests/x']) {
    t.is(redirectedUrl(url), undefined, url);
  }
});
