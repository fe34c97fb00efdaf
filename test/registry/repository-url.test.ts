import test from 'ava';
import { isRepositoryUrl, routedUrl } from '../../src/registry/repository-url.js';

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
