import test from 'ava';
import { annotatedLayer, chainIDs } from '../../src/snapshotter/remote-labels.js';

test('layers are told by the annotations of the CRI plugin and of ctr-remote', (t) => {
  const target = { 'containerd.io/snapshot.ref': 'sha256:1' };
  t.deepEqual(
    annotatedLayer({
      ...target,
      'containerd.io/snapshot/cri.image-ref': 'r/x:1',
      'containerd.io/snapshot/cri.layer-digest': 'sha256:2',
      'containerd.io/snapshot/cri.manifest-digest': 'sha256:3',
    }),
    { target: 'sha256:1', reference: 'r/x:1', blob: 'sha256:2', manifestDigest: 'sha256:3' },
  );
  t.like(
    annotatedLayer({
      ...target,
      'containerd.io/snapshot/remote/stargz.reference': 'r/x:1',
      'containerd.io/snapshot/remote/stargz.digest': 'sha256:2',
    }),
    { reference: 'r/x:1', blob: 'sha256:2' },
  );
  t.is(annotatedLayer(target), undefined);
  t.is(annotatedLayer({ 'containerd.io/snapshot/cri.image-ref': 'r/x:1' }), undefined);
});

test('chain IDs are those of the image specification', (t) => {
  const diffIDs = ['a', 'b'].map((digit) => `sha256:${digit.repeat(64)}`);
  t.deepEqual(chainIDs(diffIDs), [
    `sha256:${'a'.repeat(64)}`,
    'sha256:ccd722928bd92476ba1745586fed6e45a102504185ad88cd89e01ff116fd146c',
  ]);
  t.deepEqual(chainIDs([]), []);
});
