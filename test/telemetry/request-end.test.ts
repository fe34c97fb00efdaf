/** Requests whose end is known; in a process of its own, where no others are. */
import test from 'ava';
import { beginRequest, endRequest, requestId } from '../../src/telemetry/request-id.js';

test('a request has its id until it ends, whatever others do', async (t) => {
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const [one, two] = [{}, {}];
  const seen: (string | undefined)[] = [];
  const work = (steps: number) => async () => {
    for (let step = 0; step < steps; step++) {
      await turn();
      seen.push(requestId());
    }
  };
  const first = beginRequest(one, 'request-one', work(1));
  const second = beginRequest(two, 'request-two', work(3));
  await first;
  endRequest(one);
  endRequest(one);
  await second;
  endRequest(two);
  t.deepEqual(seen.toSorted(), ['request-one', 'request-two', 'request-two', 'request-two']);
  t.is(requestId(), undefined);
  await beginRequest(one, 'request-three', work(1));
  t.is(seen.at(-1), 'request-three', 'after a pause as well');
});
