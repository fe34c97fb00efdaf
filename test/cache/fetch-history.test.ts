import test from 'ava';
import { FetchHistory } from '../../src/cache/fetch-history.js';

test('the history has the last runs, in order, however many there were', (t) => {
  const history = new FetchHistory();
  for (let first = 0; first < 10_000; first++)
    history.add({ time: first, first, count: 1, kind: 'smb', demanded: true });
  const { runs } = history;
  t.true(runs.length >= 1024 && runs.length <= 2048);
  t.is(runs.at(-1)?.first, 9999);
  t.true(runs.every(({ first }, index) => first === runs[0]!.first + index));
});
