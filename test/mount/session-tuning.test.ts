import test from 'ava';
import { sessionTuning } from '../../src/mount/session-tuning.js';

test('the environment switches polling, splicing and what is foreseen', (t) => {
  t.deepEqual(sessionTuning({}), {});
  t.deepEqual(sessionTuning({ ORCA_SESSION_POLL: '0', ORCA_SESSION_SPLICE: 'off' }), {
    poll: 0,
    splice: false,
  });
  t.deepEqual(sessionTuning({ ORCA_SESSION_FORESEE: 'off' }), { foresee: false });
  t.deepEqual(sessionTuning({ ORCA_SESSION_POLL: '10000', ORCA_SESSION_SPLICE: 'on' }), {
    poll: 10_000,
    splice: true,
  });
});

test('a value that is none is named', (t) => {
  for (const poll of ['', '-1', '1.5', '10001', '1e3', 'off']) {
    const error = t.throws(() => sessionTuning({ ORCA_SESSION_POLL: poll }), { code: 'INVALID_SETTING' });
    t.regex(error.message, /^ORCA_SESSION_POLL is /);
  }
  for (const name of ['ORCA_SESSION_SPLICE', 'ORCA_SESSION_FORESEE']) {
    for (const value of ['', '0', 'yes']) {
      const error = t.throws(() => sessionTuning({ [name]: value }), { code: 'INVALID_SETTING' });
      t.true(error.message.startsWith(`${name} is `));
    }
  }
});
