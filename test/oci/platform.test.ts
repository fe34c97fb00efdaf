import test from 'ava';
import { MEDIA_TYPE, type Platform } from '../../src/oci/manifest.js';
import { parsePlatform, platformDistance, selectPlatform } from '../../src/oci/platform.js';

const candidate = (platform: string | undefined, digit = '1') => ({
  mediaType: MEDIA_TYPE.manifest,
  digest: `sha256:${digit.repeat(64)}`,
  size: 1,
  ...(platform === undefined ? {} : { platform: parsePlatform(platform) }),
});
const choose = (offered: (string | undefined)[], wanted: string) => {
  const candidates = offered.map((platform, i) => candidate(platform, String(i)));
  return candidates.indexOf(
    selectPlatform(candidates, parsePlatform(wanted), 'index') as (typeof candidates)[number],
  );
};

test('platforms are parsed, and other names of an architecture mean the same', (t) => {
  t.deepEqual(parsePlatform('linux/arm/v7'), { os: 'linux', architecture: 'arm', variant: 'v7' });
  t.deepEqual(parsePlatform('Linux/x86_64'), { os: 'linux', architecture: 'amd64' });
  t.deepEqual(parsePlatform('linux/aarch64'), { os: 'linux', architecture: 'arm64' });
  for (const bad of ['', 'linux', 'linux/', 'linux/a/b/c', 'linux/../x']) {
    t.throws(() => parsePlatform(bad), { code: 'UNSUPPORTED' }, bad);
  }
});

test('the platform that is asked for is chosen', (t) => {
  t.is(choose(['linux/arm64', 'linux/amd64', 'windows/amd64'], 'linux/amd64'), 1);
  t.is(choose(['linux/arm64/v8', 'linux/amd64'], 'linux/arm64'), 0);
});

test('a lower variant will do, the nearest first, a higher one will not', (t) => {
  t.is(choose(['linux/arm/v5', 'linux/arm/v6', 'linux/arm/v7'], 'linux/arm/v7'), 2);
  t.is(choose(['linux/arm/v5', 'linux/arm/v6', 'linux/arm/v7'], 'linux/arm/v6'), 1);
  t.is(choose(['linux/arm/v5', 'linux/arm/v7'], 'linux/arm'), 1);
  t.is(choose(['linux/amd64/v3', 'linux/amd64'], 'linux/amd64'), 1);
  t.is(choose(['linux/amd64', 'linux/amd64/v2', 'linux/amd64/v3'], 'linux/amd64/v2'), 1);
  t.throws(() => choose(['linux/amd64/v3'], 'linux/amd64'), { code: 'NOT_FOUND' });
});

test('a platform without levels matches its own variant only', (t) => {
  const platform = (variant?: string): Platform => ({
    os: 'linux',
    architecture: 'mips',
    ...(variant ? { variant } : {}),
  });
  t.is(platformDistance(platform('r6'), platform('r6')), 0);
  t.is(platformDistance(platform(), platform()), 0);
  t.is(platformDistance(platform('r6'), platform()), undefined);
});

test('one manifest without a platform is taken, several are not', (t) => {
  t.is(choose([undefined], 'linux/amd64'), 0);
  t.throws(() => choose([undefined, undefined], 'linux/amd64'), { code: 'NOT_FOUND' });
  t.is(choose([undefined, 'linux/amd64'], 'linux/amd64'), 1);
});

test('what is missing is reported with what is there', (t) => {
  const candidates = [candidate('linux/arm64'), candidate('linux/s390x'), candidate('unknown/unknown')];
  t.throws(() => selectPlatform(candidates, parsePlatform('linux/amd64'), 'index x'), {
    code: 'NOT_FOUND',
    message: 'index x: no image for linux/amd64; it has linux/arm64, linux/s390x',
  });
});
