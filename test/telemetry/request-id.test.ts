import { spawnSync } from 'node:child_process';
import test from 'ava';
import { acceptRequestId, requestId, withRequestId } from '../../src/telemetry/request-id.js';

test('an id of others is accepted when it is well-formed, and otherwise a new one made', (t) => {
  for (const good of ['0123456789abcdef', 'build-42.step_7', '6f1c2a34-0000-4000-8000-000000000000'])
    t.is(acceptRequestId(good), good);
  const bad = [
    undefined,
    '',
    'short',
    '-leading-dash',
    'with space 1',
    'new\nline-here',
    'ünïcode-id',
    '"quoted-id"',
  ];
  for (const given of [...bad, 'x'.repeat(65), ['twice-given', 'twice-given']]) {
    const made = acceptRequestId(given);
    t.regex(made, /^[0-9a-f-]{36}$/);
    t.not(acceptRequestId(given), made);
  }
});

test('what a request leads to is for its sake, and nothing else', async (t) => {
  const seen = await Promise.all(
    ['request-one', 'request-two'].map((id) =>
      withRequestId(id, async () => {
        await new Promise((resolve) => setTimeout(resolve, 5));
        return requestId();
      }),
    ),
  );
  t.deepEqual(seen, ['request-one', 'request-two']);
  t.is(requestId(), undefined);
});

test('JSON records name their request', (t) => {
  const url = (name: string) => new URL(`../../src/telemetry/${name}.js`, import.meta.url).href;
  const script = `
    import { configureLogging, log } from '${url('logger')}';
    import { withRequestId } from '${url('request-id')}';
    await configureLogging({ level: 'info', format: 'json' });
    withRequestId('request-one', () => log.info('within'));
    log.info('without');
  `;
  const { stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  const records = stderr
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { msg: string; request?: string });
  t.deepEqual(
    records.map(({ msg, request }) => [msg, request]),
    [
      ['within', 'request-one'],
      ['without', undefined],
    ],
  );
});
