import test from 'ava';
import { buildEnvironment, DEFAULT_PATH, valueOf } from '../../src/runtime/environment.js';

const build = (changes: Partial<Parameters<typeof buildEnvironment>[0]> = {}) =>
  buildEnvironment({
    hostname: 'abc',
    terminal: false,
    image: [],
    options: [],
    host: { FROM_HOST: 'yes' },
    home: '/root',
    ...changes,
  });

test('PATH, HOSTNAME and HOME are always there', (t) => {
  t.deepEqual(build(), [`PATH=${DEFAULT_PATH}`, 'HOSTNAME=abc', 'HOME=/root']);
});

test('TERM comes with a terminal', (t) => {
  t.is(valueOf(build({ terminal: true }), 'TERM'), 'xterm');
  t.is(valueOf(build({ terminal: true, image: ['TERM=vt100'] }), 'TERM'), 'vt100');
});

test('the image overrides defaults and -e overrides the image', (t) => {
  const environment = build({ image: ['PATH=/bin', 'A=1', 'HOME=/srv'], options: ['A=2', 'B=x=y', 'C='] });
  t.deepEqual(environment, ['PATH=/bin', 'HOSTNAME=abc', 'A=2', 'HOME=/srv', 'B=x=y', 'C=']);
});

test('-e with a name alone takes the value from the host, or removes the variable', (t) => {
  const environment = build({ image: ['A=1'], options: ['FROM_HOST', 'A', 'NOWHERE'] });
  t.is(valueOf(environment, 'FROM_HOST'), 'yes');
  t.is(valueOf(environment, 'A'), undefined);
  t.is(valueOf(environment, 'NOWHERE'), undefined);
});

test('lines of the image without a name or a value are ignored', (t) => {
  t.deepEqual(build({ image: ['=x', 'NOVALUE', ''] }), build());
});
